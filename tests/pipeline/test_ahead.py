"""What a validation begins with while PyTorch is being imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.core.errors import SourceError
from edgekit.pipeline.ahead import begin
from edgekit.runtime import load
from edgekit.sources.data import Samples
from tests.evaluation.conftest import text_bundle
from tests.evaluation.test_accuracy import labelled


class Rows:
    """Gives samples, and keeps which kind of classification they were asked for."""

    def __init__(self, kind: str) -> None:
        self.samples = labelled(kind)
        self.asked: list[str | None] = []

    def __call__(self, problem: str | None) -> Samples:
        """See `begin`."""
        self.asked.append(problem)
        return self.samples


def checkpoint(folder: Path, **config: object) -> str:
    """A folder that says what it is; its weights are nobody's affair yet."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    return str(folder)


@pytest.mark.parametrize("problem", [None, "single_label_classification", "regression"])
def test_texts_are_read_as_the_checkpoint_says(tmp_path: Path, problem: str | None) -> None:
    """Its config.json is read without what it was written by."""
    spec = checkpoint(tmp_path / "m", problem_type=problem)
    rows = Rows("classification")
    with load(text_bundle(tmp_path, "classification").path) as model:
        begun = begin(model, spec, rows)
    assert begun is not None
    assert begun.samples is rows.samples
    assert begun.texts is not None
    assert len(begun.texts.units) == len(rows.samples)
    assert rows.asked == [problem]


@pytest.mark.parametrize("spec", [None, "org/model", "file.py:make"])
def test_what_only_the_open_reference_tells_is_waited_for(tmp_path: Path, spec: str | None) -> None:
    """Nothing is read that it may want to be read in another way."""
    rows = Rows("classification")
    with load(text_bundle(tmp_path, "classification").path) as model:
        assert begin(model, spec, rows) is None
    assert rows.asked == []


def test_a_masked_word_is_the_metrics_affair(tmp_path: Path) -> None:
    """It is chosen when the metric is known."""
    with load(text_bundle(tmp_path, "fill-mask").path) as model:
        spec = checkpoint(tmp_path / "m")
        assert begin(model, spec, Rows("fill-mask")) is None


def test_a_broken_checkpoint_is_told(tmp_path: Path) -> None:
    """As it is when it is opened."""
    spec = checkpoint(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{")
    with (
        load(text_bundle(tmp_path, "classification").path) as model,
        pytest.raises(SourceError, match="JSON"),
    ):
        begin(model, spec, Rows("classification"))
