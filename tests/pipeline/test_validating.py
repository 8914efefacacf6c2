"""The verdict on a bundle against its original."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError, MissingDependency
from edgekit.core.manifest import TensorSpec
from edgekit.core.results import ValidateResult
from tests.models import save_model
from tests.runtime.conftest import Graph, linear_graph, write_bundle


def _reviews(path: Path, rows: int) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            text = f"The {row} film of the year was slow and loud."
            writer.writerow([text, ("negative", "neutral", "positive")[row % 3]])
    return path


@pytest.mark.slow
def test_same_model_passes(classifier: Path, classifier_source: Path, tmp_path: Path) -> None:
    """An exported model has the accuracy of its original, sample by sample."""
    data = _reviews(tmp_path / "r.csv", 900)
    result = edgekit.validate(
        classifier, reference=str(classifier_source), data=str(data), max_drop="5%", latency=False
    )
    assert result.verdict == "pass"
    assert result.accuracy is not None
    assert result.accuracy.candidate == result.accuracy.reference
    assert result.numerics["logits"].argmax_agreement == 1.0


@pytest.mark.slow
def test_too_few_samples_are_inconclusive(
    classifier: Path, classifier_source: Path, tmp_path: Path
) -> None:
    """A budget that the data cannot prove is exit 5, with the number that would settle it."""
    data = _reviews(tmp_path / "r.csv", 100)
    with pytest.raises(BudgetNotMet, match="not proved") as caught:
        edgekit.validate(
            classifier, reference=str(classifier_source), data=str(data), latency=False
        )
    result = caught.value.result
    assert isinstance(result, ValidateResult)
    assert result.verdict == "inconclusive"
    assert result.accuracy is not None
    assert (result.accuracy.samples_needed or 0) > result.accuracy.samples


@pytest.mark.slow
def test_other_weights_are_refused(classifier: Path, tmp_path: Path) -> None:
    """A reference that the bundle was not made from proves nothing."""
    other = save_model("bert", "text-classification", tmp_path / "m", seed=1)
    with pytest.raises(ConfigError, match="other weights"):
        edgekit.validate(classifier, reference=str(other), latency=False)
    with pytest.raises(BudgetNotMet, match="not within the tolerance"):
        edgekit.validate(
            classifier, reference=str(other), latency=False, allow_other_reference=True
        )


@pytest.mark.slow
def test_evidence_leaves_the_id(classifier_source: Path, tmp_path: Path) -> None:
    """--record writes what was found into the manifest; the bundle stays the same bundle."""
    before = edgekit.export(str(classifier_source), tmp_path / "b").bundle_id
    edgekit.validate(tmp_path / "b", reference=str(classifier_source), latency=False, record=True)
    after = open_bundle(tmp_path / "b")
    assert after.id == before
    assert after.manifest.evidence["accuracy"]["verdict"] == "pass"  # type: ignore[index]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("text,label\n", "no rows"),
        ("review,label\na,positive\n", "review"),
        ("text,label\na,splendid\n", "splendid"),
    ],
)
def test_bad_data(
    classifier: Path, classifier_source: Path, tmp_path: Path, content: str, told: str
) -> None:
    """DATA that cannot be judged on is a configuration error that names the reason."""
    (tmp_path / "d.csv").write_text(content)
    with pytest.raises(ConfigError) as caught:
        edgekit.validate(
            classifier, reference=str(classifier_source), data=str(tmp_path / "d.csv"),
            latency=False,
        )  # fmt: skip
    assert told in str(caught.value)


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_pytorch_there_is_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """The pip line of the extra, before anything is loaded."""
    bundle = write_bundle(tmp_path / "b", linear_graph(), task="custom")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"edgekit-ml\[build\]"):
        edgekit.validate(bundle.path, reference="org/model", latency=False)


IDS = """
import torch
class Ids(torch.nn.Module):
    def forward(self, x):
        return {"y": x + 1}
def make():
    return Ids(), {"x": torch.ones(2, 3, dtype=torch.int64)}
"""


@pytest.mark.parametrize(("added", "passes"), [(1, True), (2, False)])
def test_whole_numbers_are_judged(tmp_path: Path, added: int, passes: bool) -> None:
    """A model with nothing but integer outputs is compared by equality."""
    (tmp_path / "ids.py").write_text(IDS)
    graph = Graph(
        [TensorSpec("x", "int64", ("batch", 3))], [TensorSpec("y", "int64", ("batch", 3))]
    )
    graph.weight("added", np.array(added, dtype=np.int64))
    graph.op("Add", "x", "added", to="y")
    bundle = write_bundle(tmp_path / "b", graph, task="custom")
    options = {"inputs": ["x=int64:batch,3"], "latency": False, "allow_other_reference": True}
    reference = f"{tmp_path}/ids.py:make"
    if passes:
        result = edgekit.validate(bundle.path, reference=reference, **options)  # type: ignore[arg-type]
        assert result.numerics["y"].argmax_agreement == 1
        return
    with pytest.raises(BudgetNotMet, match="output y, whole numbers"):
        edgekit.validate(bundle.path, reference=reference, **options)  # type: ignore[arg-type]
