"""The verdict on a bundle against its original."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import ValidationError

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError, MeasurementError, MissingDependency
from edgekit.core.manifest import Origin, Source, TensorSpec
from edgekit.core.measurements import (
    Accuracy,
    Gate,
    Interval,
    Latency,
    LayerError,
    Numerics,
    Size,
    ValidateResult,
    WorstSample,
)
from edgekit.core.results import to_json
from edgekit.pipeline import validating
from edgekit.runtime.model import Model
from edgekit.sources import opening
from tests.models import save_model
from tests.runtime.conftest import Graph, linear_graph, write_bundle
from tests.schemas import SCHEMAS, check_schema_of


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
    with pytest.raises(MissingDependency, match=r"\[build\]"):
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


LINEAR = """
import torch
class Linear(torch.nn.Module):
    def forward(self, a, b):
        return {"y": 2 * a + b}
def make():
    return Linear(), {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
def worse():
    class Worse(torch.nn.Module):
        def forward(self, a, b):
            return {"y": 2 * a + b + (a[:, :1] > 0.9) * torch.tensor([9.0, 0.0, -9.0])}
    return Worse(), {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
def accuracy(predictions, labels):
    return (predictions.argmax(axis=1) == labels).mean()
"""


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A custom bundle, its module, and labelled arrays."""
    bundle = tmp_path / "b"
    write_bundle(bundle, linear_graph(), task="custom")
    (tmp_path / "linear.py").write_text(LINEAR)
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 600, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", a=a, b=b, label=(2 * a + b).argmax(axis=1))
    return bundle


def judged(bundle: Path, factory: str = "make", **options: object) -> ValidateResult:
    """The result, whatever the verdict."""
    folder = bundle.parent
    given: dict[str, object] = {
        "reference": f"{folder}/linear.py:{factory}",
        "data": str(folder / "d.npz"),
        "latency": False,
        "allow_other_reference": True,
        **options,
    }
    try:
        return edgekit.validate(bundle, **given)  # type: ignore[arg-type]
    except BudgetNotMet as error:
        result = error.result
    assert isinstance(result, ValidateResult)
    return result


def test_the_result_says_what_was_judged_against_what(linear: Path) -> None:
    """Bundle and reference by name and hash, the notes, McNemar's p and the budget as a gate."""
    result = judged(linear, max_drop="5%")
    assert result.verdict == "pass"
    assert result.bundle == {
        "name": "b", "bundle_id": open_bundle(linear).id, "stage": "exported", "task": "custom",
        "target": None, "engine": "onnxruntime", "precision": "fp32",
    }  # fmt: skip
    assert result.reference["architecture"] == "Linear"
    assert len(str(result.reference["sha256"])) == 64
    assert result.gates[0].name == "max_drop"
    assert result.accuracy is not None
    assert result.accuracy.mcnemar_p == 1
    assert result.timing is None
    assert result.worst == ()


def test_the_worst_samples_are_told_and_written(linear: Path, tmp_path: Path) -> None:
    """Twenty in the result, as many as asked for in the file, by their place in DATA."""
    file = tmp_path / "worst.jsonl"
    result = judged(linear, "worse", worst=file, worst_count=25)
    # The bundle is the better one: no drop.
    assert result.verdict == "pass"
    assert len(result.worst) == 20
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 25
    assert [line["row"] for line in lines[:20]] == [sample.row for sample in result.worst]
    arrays = np.load(tmp_path / "d.npz")
    for line in lines:
        # Where the reference adds to one class and takes from another.
        assert arrays["a"][line["row"] - 1, 0] > 0.9
    flips = [line["changed"] for line in lines]
    assert flips == sorted(flips, reverse=True)
    assert flips[0]
    assert lines[0]["distance"] == pytest.approx(9, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"worst": "nowhere/w.jsonl"}, "no such folder"),
        ({"worst": "."}, "it is a folder"),
        ({"metric": "f1-mcro"}, "not known"),
        ({"metric": "spearman"}, "does not fit"),
        ({"metric": "nowhere.py:f"}, "no file nowhere.py"),
    ],
)
def test_wrong_options_end_before_anything_runs(
    linear: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], told: str
) -> None:
    """A typing error does not cost the time of a run."""

    def never(*_: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(Model, "run", never)
    with pytest.raises(ConfigError, match=told):
        judged(linear, **options)


def test_worst_samples_need_data(linear: Path) -> None:
    """There are none in the golden inputs."""
    with pytest.raises(ConfigError, match="--worst needs --data"):
        judged(linear, data=None, worst="w.jsonl")


def test_a_budget_of_the_drop_needs_data(linear: Path) -> None:
    """Typed without DATA it would be a promise that nothing keeps."""
    with pytest.raises(ConfigError, match="--max-drop needs --data") as caught:
        judged(linear, data=None, max_drop="1%")
    assert caught.value.exit_code == 2


def test_without_data_the_tolerance_is_a_gate(linear: Path) -> None:
    """In the table, with what it limits as a note."""
    result = judged(linear, data=None)
    assert result.verdict == "pass"
    assert [(gate.name, gate.passed) for gate in result.gates] == [("tolerance", True)]
    assert any(note.startswith("The gate tolerance (max |Δ| ≤") for note in result.notes)


def test_a_module_is_no_checkpoint(linear: Path, tmp_path: Path) -> None:
    """Another kind of reference is told as such, before anything is loaded."""
    (tmp_path / "checkpoint").mkdir()
    for reference in (str(tmp_path / "checkpoint"), "org/model"):
        with pytest.raises(ConfigError, match=r"a module of your own.* names a checkpoint"):
            judged(linear, reference=reference)
    text = write_bundle(tmp_path / "t", linear_graph(), task="feature-extraction").path
    with pytest.raises(ConfigError, match=r"made from a checkpoint.* names a module of your own"):
        judged(text, data=None)


def test_the_rows_and_the_record_are_told(linear: Path) -> None:
    """Where the other rows went, and what was written where."""
    told: list[str] = []
    result = judged(linear, max_drop="90%", limit=100, record=True, progress=told.append)
    assert result.verdict == "pass"
    rows = next(line for line in told if line.startswith("600 rows: 4"))
    assert "are for verdicts (the rest is kept for calibration and search)" in rows
    assert rows.endswith("100 of them are judged (--limit)")
    manifest = linear / "edgekit.json"
    assert told[-1] == (
        f"Recorded in {manifest}: the verdict (pass), accuracy, gates, numerics and size."
    )


def test_an_own_metric_is_used(linear: Path, tmp_path: Path) -> None:
    """By the name of its file."""
    result = judged(linear, metric=f"{tmp_path}/linear.py:accuracy", max_drop="5%")
    assert result.accuracy is not None
    assert result.accuracy.metric.endswith("linear.py:accuracy")
    assert result.accuracy.reference == 1


def test_layers_are_ranked_against_the_exported_bundle(linear: Path, tmp_path: Path) -> None:
    """With DATA its samples, without it the bundle's own inputs; equal ones are said to be."""
    graph = linear_graph()
    graph.weights.clear()
    graph.weight("two", np.array(2.1, dtype=np.float32))
    worse = write_bundle(tmp_path / "worse", graph, task="custom").path
    for data in (str(tmp_path / "d.npz"), None):
        result = judged(worse, data=data, layers=linear)
        assert [layer.tensor for layer in result.layers] == ["doubled", "y"]
        assert result.layers[0].sqnr_db == pytest.approx(20 * np.log10(20), abs=0.01)
    same = judged(linear, layers=linear)
    assert same.layers == ()
    assert any("All tensors inside" in note for note in same.notes)


def test_the_targets_limits_hold(linear: Path, tmp_path: Path) -> None:
    """A compiled bundle that misses a limit of its target fails, unless another limit is given."""
    opened = open_bundle(linear)
    target = {"name": "tiny", "limits": {"size_mb": 0.0001, "rss_mb": 1}}
    manifest = replace(opened.manifest, target=target)
    (linear / "edgekit.json").write_bytes(manifest.to_json())
    missed = judged(linear, max_drop="5%")
    assert missed.verdict == "fail"
    assert any(gate.name == "max_size_mb" and gate.passed is False for gate in missed.gates)
    assert any("Limits of the target tiny" in note for note in missed.notes)
    assert judged(linear, max_drop="5%", max_size_mb=1.0).verdict == "pass"


def check_schema(value: object) -> None:
    """Hold a result to the published schema."""
    check_schema_of("validate", value)


@pytest.mark.parametrize("factory", ["make", "worse"])
def test_results_fit_the_schema(linear: Path, factory: str) -> None:
    """With and without data, passed or failed, and nothing that the schema does not name."""
    result = judged(linear, factory)
    check_schema(to_json(result))
    check_schema(to_json(judged(linear, factory, data=None, layers=linear)))
    failed = judged(linear, factory, max_size_mb=1e-9)
    assert failed.verdict == "fail"
    check_schema(to_json(failed))
    with pytest.raises(ValidationError, match="surplus"):
        check_schema({**to_json(result), "surplus": 1})  # type: ignore[dict-item]


def test_the_schema_names_every_field() -> None:
    """A new field of a record is a line in the schema."""
    schema = SCHEMAS.contents("validate.schema.json")
    records = {
        "accuracy": Accuracy, "numerics": Numerics, "latency": Latency, "size": Size,
        "gate": Gate, "worst": WorstSample, "layer": LayerError, "interval": Interval,
    }  # fmt: skip
    for name, record in records.items():
        assert set(schema["$defs"][name]["properties"]) == {one.name for one in fields(record)}
    assert set(schema["properties"]) == {one.name for one in fields(ValidateResult)} | {"error"}


@pytest.mark.slow
def test_a_timed_result_fits_the_schema(linear: Path) -> None:
    """The measurement that the latency sums up is a bench result."""
    told: list[str] = []
    result = judged(
        linear, latency=True, budget=2.0, processes=2, max_drop="5%", record=True,
        progress=told.append,
    )  # fmt: skip
    assert any("6 fresh processes (3 in each of 2 rounds), at most 2 s" in line for line in told)
    assert told[-1].endswith("accuracy, gates, numerics, size, latency and memory.")
    check_schema(to_json(result))
    assert result.timing is not None
    assert result.latency is not None
    recorded = open_bundle(linear).manifest.evidence
    assert {"latency", "memory", "noise"} <= set(recorded)
    judged(linear, max_drop="5%", record=True, progress=told.append)
    assert told[-1].endswith(
        "Not measured by this run, and removed: the latency and memory of an earlier one."
    )
    assert not {"latency", "memory", "noise"} & set(open_bundle(linear).manifest.evidence)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"budget": -1.0}, "budget"),
        ({"processes": 1}, "processes"),
        ({"threads": 0}, "--threads"),
        ({"length": 99999}, "length"),
        ({"length": "data", "data": None, "max_drop": None}, "--length data needs"),
        ({"data": "none.npz"}, "no data at 'none.npz'"),
        ({"columns": "label=stars"}, "no array 'stars'"),
        ({"data": None, "max_drop": None, "columns": "label=stars"}, "--columns needs --data"),
        ({"data": None, "max_drop": None, "metric": "accuracy"}, "--metric needs --data"),
        ({"layers": "another"}, "another model"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_loaded(
    linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object],
    told: str,
) -> None:  # fmt: skip
    """Neither PyTorch's model nor an hour of comparing comes before a mistyped number."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the reference was loaded")

    monkeypatch.setattr(opening, "open_source", never)
    if "layers" in options:
        for name, sha256 in (("b", "0" * 64), ("another", "1" * 64)):
            if name != "b":
                write_bundle(tmp_path / name, linear_graph(), task="custom")
            bundle = open_bundle(tmp_path / name)
            source = Source("factory", "m", None, sha256, "M", 1, "float32", None,
                            Origin("m", sha256))  # fmt: skip
            manifest = replace(bundle.manifest, source=source)
            (bundle.path / "edgekit.json").write_bytes(manifest.to_json())
        options = {"layers": tmp_path / "another"}
    with pytest.raises(ConfigError, match=told):
        judged(linear, **{"latency": True, **options})


def test_a_failed_measurement_keeps_what_was_found(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accuracy stands in the error's result; what needed the measurement is undecided."""

    def crash(*_: object, **__: object) -> None:
        raise MeasurementError("b could not be measured: it crashed.")

    monkeypatch.setattr(validating, "time_against", crash)
    with pytest.raises(MeasurementError, match="crashed") as caught:
        judged(linear, latency=True, max_drop="5%", min_speedup=2.0)
    result = caught.value.result
    assert isinstance(result, ValidateResult)
    assert result.verdict == "inconclusive"
    assert result.accuracy is not None
    assert result.latency is None
    assert Gate("min_speedup", 2.0, None, None) in result.gates
    check_schema(to_json(result))
    with pytest.raises(MeasurementError) as caught:
        judged(linear, latency=True, max_drop="5%", max_size_mb=1e-9)
    assert isinstance(caught.value.result, ValidateResult)
    assert caught.value.result.verdict == "fail"


def test_figures_that_are_no_numbers_fit_the_schema(linear: Path) -> None:
    """NaN and unbounded intervals are null in JSON."""
    result = judged(linear)
    assert result.accuracy is not None
    accuracy = replace(
        result.accuracy, candidate=math.nan, drop=math.nan, drop_lower_95=-math.inf,
        drop_upper_95=math.inf,
    )  # fmt: skip
    plain = to_json(
        replace(
            result,
            accuracy=accuracy,
            numerics={"y": Numerics(math.nan, math.nan, math.nan, None, math.nan)},
            worst=(WorstSample(1, "x", None, "1", "nan", math.nan, True),),
            layers=(LayerError("y", "MatMul", -math.inf, math.nan),),
        )
    )
    check_schema(plain)
    assert isinstance(plain, dict)
    assert plain["accuracy"]["drop_upper_95"] is None
    assert plain["layers"][0]["sqnr_db"] is None
    assert plain["worst"][0]["distance"] is None


def test_a_limit_is_of_data() -> None:
    """Ignored, it would look as if it had been kept to."""
    with pytest.raises(ConfigError, match="--limit needs --data"):
        edgekit.validate("nowhere", reference="nothing", limit=5)
