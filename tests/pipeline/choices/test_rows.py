"""The rows that a step takes of DATA, each for one purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Step
from edgekit.pipeline.choices import rows as module
from edgekit.pipeline.choices.rows import Rows, calibration_feeds, read_rows
from edgekit.sources.data import read_samples
from tests.pipeline.quantizable import Small, make_small, rows
from tests.runtime.generation.conftest import write_generator
from tests.tiny_pictures import album, picture_bundle


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """The small classifier and its 1,000 rows."""
    return make_small(tmp_path)


def read(small: Small, data: str | None = None, calibration: str | None = None) -> Rows:
    """The rows of DATA, without a reference: it matters for texts only."""
    return read_rows(open_bundle(small.bundle), None, data, None, calibration, seed=0)


def save(path: Path, x: np.ndarray, label: np.ndarray) -> str:
    """Rows as a file."""
    np.savez(path, x=x, label=label)
    return str(path)


def test_one_file_has_rows_for_everything(small: Small) -> None:
    """A tenth calibrates, a fifth chooses, the rest judges; no row does two of them."""
    found = read(small, small.data)
    assert found.calibration is not None
    assert found.search is not None
    assert found.verdict is not None
    sets = [set(one.row_hashes) for one in (found.calibration, found.search, found.verdict)]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 1000
    assert len(sets[2]) > len(sets[1]) > len(sets[0]) > 30
    assert set(found.roles) == {"calibration", "search"}
    assert found.notes == ()


def test_own_calibration_never_judges(small: Small) -> None:
    """Rows of --calibration are dropped from the others, and that is told with their number."""
    x, label = rows(1000)
    own = save(small.folder / "own.npz", x[:100], label[:100])
    alone, both = read(small, small.data), read(small, small.data, own)
    assert both.calibration is not None
    assert len(both.calibration) == 100
    assert alone.verdict is not None
    assert both.verdict is not None
    dropped = len(alone.verdict) - len(both.verdict)
    assert dropped > 0
    assert not set(both.verdict.row_hashes) & set(both.calibration.row_hashes)
    assert any(note.startswith(f"{dropped} rows of") for note in both.notes)


def test_calibration_on_all_rows_leaves_none_to_judge_by(small: Small) -> None:
    """It is told that they were used, not that there are none."""
    data = save(small.folder / "few.npz", *rows(400))
    with pytest.raises(ConfigError, match="used before"):
        read(small, data, data)


def test_no_more_calibrates_than_512_rows(small: Small) -> None:
    """However long the file is: so many are held, it is told, and the others may judge."""
    found = read(small, small.data, small.data)
    assert found.calibration is not None
    assert found.verdict is not None
    assert len(found.calibration) == 512
    assert any("has 1,000 rows: ranges come from 512 of them" in note for note in found.notes)
    assert not set(found.verdict.row_hashes) & set(found.calibration.row_hashes)
    feeds = calibration_feeds(open_bundle(small.bundle), found)
    assert len(feeds) == 512


def test_rows_of_earlier_steps_do_not_judge(small: Small) -> None:
    """What another step has seen is dropped, as its manifest tells."""
    before = read(small, small.data)
    assert before.verdict is not None
    spent = list(before.verdict.row_hashes[:200])
    opened = open_bundle(small.bundle)
    manifest = replace(opened.manifest, steps=(Step("prune", data={"recovery": spent}),))
    after = read_rows(Bundle(opened.path, manifest), None, small.data, None, None, seed=0)
    assert after.verdict is not None
    assert len(after.verdict) == len(before.verdict) - 200
    assert any(note.startswith("200 rows") for note in after.notes)


def test_without_data_the_golden_samples_calibrate(small: Small) -> None:
    """With a warning, for they are few."""
    found = read(small)
    assert (found.calibration, found.search, found.verdict) == (None, None, None)
    assert found.notes == found.told(calibrated=False) == ()
    assert any("--calibration" in note for note in found.told(calibrated=True))
    feeds = calibration_feeds(open_bundle(small.bundle), found)
    assert [one["x"].shape for one in feeds] == [(4, 16)]


def test_calibration_is_one_call_a_row(small: Small) -> None:
    """Rows of different lengths can then calibrate without padding."""
    own = save(small.folder / "own.npz", *rows(7))
    feeds = calibration_feeds(open_bundle(small.bundle), read(small, None, own))
    assert [one["x"].shape for one in feeds] == [(1, 16)] * 7


def test_nan_in_calibration(small: Small) -> None:
    """A row that no range can be found in is named."""
    x, label = rows(9)
    x[4, 3] = np.nan
    own = save(small.folder / "own.npz", x, label)
    with pytest.raises(ConfigError, match=r"Row 5 of the calibration data has NaN .* in x"):
        calibration_feeds(open_bundle(small.bundle), read(small, None, own))


@pytest.mark.parametrize("role", ["calibration", "data"])
def test_empty_file(small: Small, role: str) -> None:
    """No rows are wrong DATA."""
    empty = save(small.folder / "empty.npz", *rows(0))
    with pytest.raises(ConfigError, match=r"empty\.npz"):
        read(small, **{role: empty})


@pytest.mark.parametrize("role", ["calibration", "data"])
def test_wrong_columns(small: Small, role: str) -> None:
    """An input that the data lacks is named."""
    np.savez(small.folder / "other.npz", y=np.ones((50, 16), dtype=np.float32))
    with pytest.raises(ConfigError, match="x"):
        read(small, **{role: str(small.folder / "other.npz")})


def test_too_few_rows(small: Small) -> None:
    """Each purpose needs some."""
    few = save(small.folder / "few.npz", *rows(8))
    with pytest.raises(ConfigError, match=r"at least 30|no rows for"):
        read(small, few)


@pytest.mark.parametrize("kind", ["object-detection", "image-states"])
@pytest.mark.parametrize("varies", [False, True])
def test_pictures_calibrate_within_memory(
    kind: str, varies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many as fit when they are prepared, of every class, and it is told."""
    bundle = picture_bundle(tmp_path / "b", kind, varies=varies)
    data = str(album(tmp_path / "album", 60))
    whole = read_rows(bundle, None, None, None, data, seed=0)
    assert whole.calibration is not None
    assert len(whole.calibration) == 60
    assert not any("ranges come from" in note for note in whole.notes)
    room = 5000
    monkeypatch.setattr(module, "_MOST_BYTES", room)
    found = read_rows(bundle, None, None, None, data, seed=0)
    assert found.calibration is not None
    held = sum(one["pixel_values"].nbytes for one in calibration_feeds(bundle, found))
    assert room - 840 < held <= room
    told = f"has 60 rows: ranges come from {len(found.calibration)} of them"
    assert any(told in note for note in found.notes)
    assert len({Path(str(row["image"])).parent for row in found.calibration.inputs}) == 3


def test_arrays_calibrate_within_memory(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of DATA as those of a file of one's own."""
    monkeypatch.setattr(module, "_MOST_BYTES", 10 * 64)
    found = read(small, small.data)
    assert found.calibration is not None
    assert len(found.calibration) == 10
    assert any("ranges come from 10 of them" in note for note in found.notes)


def test_a_model_that_generates_sets_nothing_aside(tmp_path: Path) -> None:
    """Nothing takes ranges of texts: a file may calibrate others, and judge it; roles stay."""
    bundle = write_generator(tmp_path / "b")
    data = tmp_path / "d.csv"
    data.write_text("text\n" + "\n".join(f"The ferry leaves at {at}." for at in range(400)))
    alone = read_rows(bundle, None, str(data), None, None, seed=0)
    both = read_rows(bundle, None, str(data), None, str(data), seed=0)
    for found in (alone, both):
        assert found.calibration is None
        assert set(found.roles) == {"search"}
        assert found.search is not None
        assert found.verdict is not None
        assert found.verdict.excluded == 0
        assert 300 < len(found.search) + len(found.verdict) < 400
        judging = read_samples(str(data), bundle.manifest.task, role="verdict")
        assert found.verdict.row_hashes == judging.row_hashes
    assert alone.told(calibrated=False) == ()
    assert ["calibrates nothing" in note for note in both.told(calibrated=False)] == [True]
    only = read_rows(bundle, None, None, None, str(data), seed=0)
    assert (only.calibration, only.roles) == (None, {})
