"""Sounds of DATA as both models are given them, and what is compared of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import ConfigError
from edgekit.evaluation import sounds
from edgekit.evaluation.measuring import Measuring
from edgekit.evaluation.media import prepared_batches
from edgekit.evaluation.natural import data_workloads
from edgekit.evaluation.numerics import mismatch_of
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.sounds import run_sounds
from edgekit.runtime import load
from edgekit.runtime.workloads import make_workloads
from edgekit.sources.data import Samples
from tests.runtime.sound.conftest import FRAME, TOKENS, classifier, speller

SOURCE: Any = SimpleNamespace(feature_extractor=None, sample_inputs=("input_values",))


class Means:
    """A reference that answers as the classifier does."""

    def __init__(self, source: object) -> None:
        pass

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One sign of the mean, and the other."""
        mean = feeds["input_values"].mean(axis=1, keepdims=True)
        return {"logits": np.concatenate([mean, -mean], axis=1)}


class Wider(Means):
    """One of another number of classes."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One more than the bundle has."""
        return {"logits": np.zeros((len(feeds["input_values"]), 3), np.float32)}


def heard(task: str, *arrays: np.ndarray) -> Samples:
    """Rows of an archive, from the seventh on."""
    count = len(arrays)
    return Samples(
        task=task,
        inputs=tuple({"audio": array} for array in arrays),
        labels=None,
        hashes=tuple(f"{row:064x}" for row in range(count)),
        rows=tuple(range(7, 7 + count)),
    )


def level(samples: int, value: float = 0.5) -> np.ndarray:
    """A sound that is nothing but its mean."""
    return np.full(samples, value, np.float32)


def run(path: Path, samples: Samples, notes: list[str] | None = None) -> Pairs:
    """Both sides, of which the reference is whatever stands in for it."""
    with load(path) as model:
        return run_sounds(model, SOURCE, samples, notes=[] if notes is None else notes)


def test_what_fills_up_is_part_of_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference hears a sound as it is; outputs are compared on equal feeds."""
    monkeypatch.setattr(sounds, "Reference", Means)
    samples = heard("audio-classification", level(300))
    notes: list[str] = []
    pairs = run(classifier(tmp_path / "fixed", samples=600).path, samples, notes)
    assert np.allclose(pairs.reference[0], [0.5, -0.5])  # type: ignore[arg-type]
    assert np.allclose(pairs.candidate[0], [0.25, -0.25])  # type: ignore[arg-type]
    assert pairs.distances["logits"].max_abs < 1e-6
    assert any("takes 0.6 seconds and hears what fills it up" in note for note in notes)


def test_a_graph_of_any_size_hears_what_the_reference_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is asked once for each sound, and of whose size nothing is to be told."""
    asked: list[int] = []

    class Counting(Means):
        """One that keeps how long the sounds are."""

        def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            """See `Means.run`."""
            asked.append(feeds["input_values"].shape[1])
            return super().run(feeds)

    monkeypatch.setattr(sounds, "Reference", Counting)
    notes: list[str] = []
    samples = heard("audio-classification", level(300), level(200))
    free = run(classifier(tmp_path / "free").path, samples, notes)
    for mine, theirs in zip(free.candidate, free.reference, strict=True):
        assert np.allclose(mine, theirs)  # type: ignore[arg-type]
    assert asked == [300, 200]
    assert not any("seconds" in note for note in notes)


def test_the_reference_has_pieces_of_its_own_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph of few samples cuts where the origin does not."""
    asked: list[int] = []

    class Silent(Means):
        """One that hears nothing but blanks."""

        def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            """As many frames as there are."""
            count = feeds["input_values"].shape[1]
            asked.append(count)
            return {"logits": np.zeros((1, count // FRAME, len(TOKENS)), np.float32)}

    monkeypatch.setattr(sounds, "Reference", Silent)
    samples = heard("automatic-speech-recognition", level(55 * FRAME))
    run(speller(tmp_path / "fixed", samples=40 * FRAME).path, samples)
    assert asked == [400, 400, 550]


def test_outputs_of_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a mismatch, and the sample has no answer."""
    monkeypatch.setattr(sounds, "Reference", Wider)
    pairs = run(classifier(tmp_path / "b").path, heard("audio-classification", level(50)))
    assert pairs.broken == {0}
    assert np.isnan(pairs.gaps[0])
    assert "[1, 2] in the bundle, [1, 3] in the original" in str(mismatch_of(pairs.distances))


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros(50, np.int16), r"float32\[samples\], got int16\[50\]"),
        (np.zeros((50, 2), np.float32), r"got float32\[50, 2\]"),
        (np.full(50, np.nan, np.float32), "50 samples that are NaN"),
    ],
)
def test_sounds_that_cannot_be_read(array: np.ndarray, told: str, tmp_path: Path) -> None:
    """Each with its row of DATA; whole numbers are not scaled by guess."""
    manifest = classifier(tmp_path / "b").manifest
    samples = heard("audio-classification", level(50), array)
    with pytest.raises(ConfigError, match=f"^Row 8 of DATA .*{told}"):
        list(prepared_batches(manifest, samples, 1))


def test_seconds_are_those_of_the_sounds(tmp_path: Path) -> None:
    """What fills up a graph of a fixed size is none of them."""
    bundle = classifier(tmp_path / "fixed", samples=600)
    samples = heard("audio-classification", level(300), level(150))
    alone = [made.seconds for made in prepared_batches(bundle.manifest, samples, 1)]
    assert alone == pytest.approx([0.3, 0.15])
    # Without a mask the longer is cut to the shorter.
    (together,) = prepared_batches(bundle.manifest, samples, 2)
    assert together.seconds == pytest.approx(0.15)
    assert together.feeds["input_values"].shape == (2, 600)
    np.savez(tmp_path / "d.npz", audio=np.random.default_rng(0).normal(0, 0.1, (64, 300)))
    (workload,) = data_workloads(bundle, Measuring(data=str(tmp_path / "d.npz"), batches=(1,)))
    assert workload.seconds == pytest.approx(0.3)
    assert make_workloads(bundle)[0].seconds == pytest.approx(0.6)
