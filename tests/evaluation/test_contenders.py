"""Who takes part: names, commands, and the workloads they share."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.comparison import make_notes
from edgekit.evaluation.contenders import (
    ReferenceSource,
    contender_names,
    free_name,
    open_artifacts,
    plan_workloads,
    reference_entrants,
    write_inputs,
)
from edgekit.evaluation.measuring import Measuring
from edgekit.evaluation.natural import data_workloads
from edgekit.runtime.workloads import Workload, load_workloads, save_workloads
from tests.tiny_pictures import album, picture_bundle

Make = Callable[..., Bundle]

WORDS = ("red", "green", "blue", "a b", "c d e")


def texts(path: Path, count: int = 80) -> str:
    """A file of short texts of different lengths."""
    lines = [
        json.dumps({"text": f"{' '.join(['good'] * (1 + index % 5))} film {index}", "label": 0})
        for index in range(count)
    ]
    path.write_text("\n".join(lines))
    return str(path)


def test_names_are_short_and_different() -> None:
    """Folders by their names, whole paths where these collide, numbers where the paths do."""
    assert contender_names([Path("x/a"), Path("y/b")]) == ["a", "b"]
    assert contender_names([Path("x/a"), Path("y/a"), Path("b")]) == ["x/a", "y/a", "b"]
    assert contender_names([Path("x/a")] * 3) == ["x/a", "x/a #2", "x/a #3"]
    assert contender_names([Path("x/pytorch")]) == ["x/pytorch"]
    assert contender_names([Path("x/m"), Path("x/m.onnx")]) == ["m", "m.onnx"]
    assert contender_names([Path("pytorch")]) == ["pytorch #2"]
    assert contender_names([Path("a"), Path("a"), Path("a #2")]) == ["a", "a #2", "a #2 #2"]


def test_a_name_that_is_taken_gets_the_next_number() -> None:
    """The first that is free."""
    assert free_name("m", []) == "m"
    assert free_name("m", ["m", "m #2"]) == "m #3"


def test_every_batch_has_every_length(bundle_of: Make) -> None:
    """In one run, batch by batch."""
    artifacts = open_artifacts([bundle_of("classification").path])
    made = plan_workloads(artifacts, Measuring(batches=(1, 2), lengths=(6, 8)))
    assert [one.name for one in made] == ["1×6", "1×8", "2×6", "2×8"]


def test_some_batches_have_some_lengths(bundle_of: Make) -> None:
    """When not all of them are wanted."""
    artifacts = open_artifacts([bundle_of("classification").path])
    some = frozenset({(1, 6), (1, 8), (2, 8)})
    made = plan_workloads(artifacts, Measuring(batches=(1, 2), lengths=(6, 8), only=some))
    assert [one.name for one in made] == ["1×6", "1×8", "2×8"]


def test_natural_lengths_come_from_data(bundle_of: Make, tmp_path: Path) -> None:
    """Rows as they are, by turns, padded to the longest of their batch only."""
    artifacts = open_artifacts([bundle_of("classification").path])
    measuring = Measuring(batches=(1, 4), lengths=(6, "data"), data=texts(tmp_path / "texts.jsonl"))
    made = plan_workloads(artifacts, measuring)
    assert [one.name for one in made] == ["1×6", "4×6", "1×data", "4×data"]
    single, several = made[2:]
    assert len(single.variants) == 64
    assert len(several.variants) == 16
    widths = {feeds["input_ids"].shape[1] for feeds in single.variants}
    assert len(widths) > 1
    assert {feeds["input_ids"].shape[0] for feeds in several.variants} == {4}
    assert single.texts is not None
    assert len(single.texts) == 64


def test_data_alone_means_natural_lengths(bundle_of: Make, tmp_path: Path) -> None:
    """Nobody gives data to measure at 16 tokens."""
    artifacts = open_artifacts([bundle_of("classification").path])
    made = plan_workloads(artifacts, Measuring(data=texts(tmp_path / "texts.jsonl")))
    assert [one.name for one in made] == ["1×data"]


def test_few_rows_have_no_lengths_of_their_own(bundle_of: Make, tmp_path: Path) -> None:
    """Fewer than 64 would be the lengths of some texts, not of the data."""
    artifacts = open_artifacts([bundle_of("classification").path])
    with pytest.raises(ConfigError, match="63 rows; natural lengths take at least 64"):
        plan_workloads(artifacts, Measuring(data=texts(tmp_path / "few.jsonl", 63)))


def test_a_model_of_arrays_takes_them_from_data(bundle_of: Make, tmp_path: Path) -> None:
    """Pictures as they are, say; there is no length to speak of."""
    artifacts = open_artifacts([bundle_of("linear").path])
    rows = np.arange(64 * 3, dtype=np.float32).reshape(64, 3)
    np.savez(tmp_path / "rows.npz", a=rows, b=rows)
    measuring = Measuring(batches=(2,), data=str(tmp_path / "rows.npz"))
    (made,) = plan_workloads(artifacts, measuring)
    assert (made.name, len(made.variants)) == ("2", 32)
    seen = np.concatenate([feeds["a"] for feeds in made.variants])
    assert sorted(seen[:, 0]) == sorted(rows[:, 0])
    with pytest.raises(ConfigError, match="takes no text"):
        plan_workloads(artifacts, Measuring(lengths=("data",), data=str(tmp_path / "rows.npz")))


def test_inputs_get_the_contenders_own_types(bundle_of: Make, tmp_path: Path) -> None:
    """All variants of them; the first contender's names are everybody's."""
    (artifact,) = open_artifacts([bundle_of("linear").path])
    wide = {name: np.ones((1, 3), dtype=np.float64) for name in ("a", "b")}
    workload = Workload(1, None, wide, (wide, wide))
    write_inputs(artifact, [workload], artifact.inputs, tmp_path / "w")
    (found,) = load_workloads(tmp_path / "w")
    assert {array.dtype.name for feeds in found.variants for array in feeds.values()} == {"float32"}


def test_the_reference_is_opened_like_the_bundle(bundle_of: Make) -> None:
    """With its task and, for a factory, its inputs, unless others are given."""
    bundle = bundle_of("classification")
    source = ReferenceSource("some/model", revision="main", trust_remote_code=True).of(bundle)
    assert source.task == "text-classification"
    words = source.command(Path("w"), 2, mode="compile")
    for word in ("some/model", "--trust-remote-code", "compile", "main"):
        assert word in words
    declared = ReferenceSource("f:g", inputs=("x=float32:1",)).of(bundle)
    assert "x=float32:1" in declared.command(Path("w"), 2)


def test_what_is_compiled_leaves_with_the_run(tmp_path: Path) -> None:
    """The compiler's cache lies in the run's own folder."""
    feeds = {"x": np.ones(1, dtype=np.float32)}
    workload = Workload(1, None, feeds)
    modes = ("eager", "compile")
    eager, compiled = reference_entrants(
        ReferenceSource("f:g"), modes, [workload], tmp_path, threads=2
    )
    assert (eager.name, compiled.name) == ("pytorch", "pytorch compile")
    assert compiled.environment["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path))
    assert "compile" in compiled.command


@pytest.mark.parametrize("kind", ["image-classification", "segmentation", "object-detection"])
@pytest.mark.parametrize("varies", [False, True])
def test_a_model_of_pictures_takes_them_from_data(
    kind: str, varies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepared as the bundle does it, whole batches, as many as fit into memory."""
    artifacts = open_artifacts([picture_bundle(tmp_path / "b", kind, varies=varies).path])
    if kind == "segmentation":
        data = album(tmp_path / "album", 65)
        rows = [f"{path},{path}" for path in sorted(data.rglob("*.png"))]
        (tmp_path / "t.csv").write_text("\n".join(["image,mask", *rows]))
        data = tmp_path / "t.csv"
    else:
        data = album(tmp_path / "album", 65)
    measuring = Measuring(batches=(1, 4), data=str(data))
    single, several = plan_workloads(artifacts, measuring)
    assert (single.name, len(single.variants)) == ("1", 64)
    assert (several.name, len(several.variants)) == ("4", 16)
    assert {feeds["pixel_values"].shape[0] for feeds in several.variants} == {4}
    monkeypatch.setattr("edgekit.evaluation.natural._MOST_PICTURES", 10 * 192)
    few, _ = plan_workloads(artifacts, measuring)
    assert 4 <= len(few.variants) <= 11


def test_pictures_of_a_table_are_files_while_they_are_measured(tmp_path: Path) -> None:
    """Children decode them; they go with the workload. Arrays are no files, and are told so."""
    made = picture_bundle(tmp_path / "b", "image-classification")
    files = sorted(album(tmp_path / "album", 64).rglob("*.png"))
    rows = [{"image": path.read_bytes(), "label": 0} for path in files]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    (workload,) = data_workloads(made, Measuring(data=str(tmp_path / "d.parquet")))
    gc.collect()
    paths = [Path(one) for one in workload.pictures or ()]
    assert len(paths) == 64
    assert all(path.is_file() for path in paths)
    del workload
    gc.collect()
    assert not paths[0].exists()
    np.savez(tmp_path / "d.npz", image=np.zeros((64, 5, 6, 3), np.uint8) + files_apart(64))
    (workload,) = data_workloads(made, Measuring(data=str(tmp_path / "d.npz")))
    assert workload.pictures == ()
    save_workloads([workload], tmp_path / "w")
    assert load_workloads(tmp_path / "w")[0].pictures == ()
    (artifact,) = open_artifacts([made.path])
    assert any("no pictures" in note for note in make_notes([], [workload], [artifact]))
    assert make_notes([], [replace(workload, pictures=None)], [artifact]) == []


def files_apart(count: int) -> np.ndarray:
    """Something to tell so many pictures apart."""
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)


def test_batch_larger_than_the_data(tmp_path: Path) -> None:
    """There is not one of them."""
    artifacts = open_artifacts([picture_bundle(tmp_path / "b", "image-states").path])
    with pytest.raises(ConfigError, match="fewer than a batch of 99"):
        measuring = Measuring(batches=(99,), data=str(album(tmp_path / "album", 70)))
        plan_workloads(artifacts, measuring)


def test_two_towers_take_no_data(tmp_path: Path) -> None:
    """They are told by name."""
    made = picture_bundle(tmp_path / "b", "image-states")
    parts = dict.fromkeys(("image", "text"), made.manifest.components["model"])
    towers = Bundle(made.path, replace(made.manifest, components=parts))
    with pytest.raises(ConfigError, match="components image and text"):
        data_workloads(towers, Measuring(data="d.csv"))
