"""quantize: what is chosen, what is refused, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import ValidationError

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError, EdgekitError, QuantizeError
from edgekit.core.measurements import KeptFloat, Noise, QuantizeResult, Tried
from edgekit.core.results import to_json
from edgekit.evaluation import latency as timing
from edgekit.pipeline import quantizing
from edgekit.pipeline.choices import candidates
from edgekit.pipeline.choices.candidates import Workshop
from edgekit.pipeline.choices.judging import Judge
from edgekit.quantization.recipes import Recipe
from edgekit.quantization.sensitivity import GroupError, Sensitivity
from edgekit.quantization.trials import Measured
from edgekit.runtime.golden import read
from tests.pipeline.quantizable import (
    Small,
    check_schema,
    compared,
    judged,
    make_small,
    quantized,
    rows,
    speed,
)
from tests.runtime.conftest import linear_graph, write_bundle
from tests.runtime.generation.conftest import write_generator
from tests.schemas import SCHEMAS

ENGINES = ("onnxruntime", "openvino")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """The small classifier, whose quantized bundles are said to be 1.75 times as fast."""
    speed(monkeypatch)
    return make_small(tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_data_the_tolerance_decides(small: Small, engine: str) -> None:
    """The bundle answers on its engine nearly as before, and says by what it was judged."""
    result = quantized(small, engine=engine)
    assert (result.verdict, result.engine, result.accuracy) == ("pass", engine, None)
    assert any("No DATA was given" in note for note in result.notes)
    x, label = rows(50, seed=9)
    with edgekit.load(small.output) as model:
        assert model.manifest.stage == "quantized"
        answers = model.run({"x": x})["logits"]
        assert (answers.argmax(axis=1) == label).all()
    assert edgekit.verify(small.output).passed
    assert edgekit.verify(small.bundle).passed


@pytest.mark.parametrize("engine", ENGINES)
def test_it_is_compiled_for_the_engine_it_was_quantized_for(small: Small, engine: str) -> None:
    """The first engine of the target may not even read it."""
    quantized(small, engine=engine)
    found = edgekit.compile(small.output, small.folder / "compiled", target="host")
    assert found.engine == engine


@pytest.mark.parametrize("engine", ENGINES)
def test_a_budget_is_proved_on_rows_that_nothing_chose_by(small: Small, engine: str) -> None:
    """The verdict's rows are of no other role, and the manifest names those that are spent."""
    result = judged(small, engine=engine)
    assert result.verdict == "pass"
    assert result.accuracy is not None
    assert result.accuracy.drop_upper_95 <= 0.05
    assert [one.taken for one in result.tried].count(True) == 1
    step = open_bundle(small.output).manifest.steps[-1]
    spent = {role: len(found) for role, found in step.data.items()}
    assert set(spent) == {"calibration", "search"}
    assert sum(spent.values()) + result.accuracy.samples == 1000
    assert (step.facts["verdict"], step.facts["judged_on"]) == ("pass", "d.npz")


@pytest.mark.parametrize("engine", ENGINES)
def test_same_bytes_again(small: Small, engine: str) -> None:
    """The same inputs and seed make the same bundle."""
    first = quantized(small, engine=engine, method="static", calibration=small.data)
    again = quantized(small, engine=engine, method="static", calibration=small.data, force=True)
    assert first.bundle_id == again.bundle_id != ""


def test_result_fits_the_schema(small: Small) -> None:
    """With and without data, passed or missed, and nothing that the schema does not name."""
    found = judged(small, sensitivity=True)
    assert found.sensitivity is not None
    for result in (
        found,
        quantized(small, force=True),
        judged(small, max_drop="0.0001%", force=True),
    ):
        check_schema(to_json(result))
    with pytest.raises(ValidationError, match="surplus"):
        check_schema({**to_json(found), "surplus": 1})  # type: ignore[dict-item]


def test_schema_names_every_field() -> None:
    """A new field of a record is a line in the schema."""
    schema = SCHEMAS.contents("quantize.schema.json")
    records: Mapping[str, type] = {
        "kept_float": KeptFloat, "tried": Tried, "sensitivity": Sensitivity, "group": GroupError,
    }  # fmt: skip
    for name, record in records.items():
        assert set(schema["$defs"][name]["properties"]) == {one.name for one in fields(record)}
    assert set(schema["properties"]) == {one.name for one in fields(QuantizeResult)} | {"error"}


def test_sensitivity_is_saved(small: Small) -> None:
    """The ranking, the sum it foretells and what was verified stand in the result and the step."""
    result = quantized(small, sensitivity=True)
    assert result.sensitivity is not None
    groups = result.sensitivity["groups"]
    assert isinstance(groups, list)
    assert len(groups) == 2
    assert groups[0]["error"] >= groups[1]["error"]
    step = open_bundle(small.output).manifest.steps[-1]
    assert step.facts["sensitivity"] == result.sensitivity


def test_impossible_budget(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """What not even a perfect candidate can prove on so many rows is exit 5 before any is made."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was prepared")

    monkeypatch.setattr(quantizing, "calibration_feeds", never)
    with pytest.raises(BudgetNotMet, match=r"cannot be proved on \d+ rows") as caught:
        edgekit.quantize(
            small.bundle, small.output, data=small.data, reference=small.reference,
            max_drop="0.0001%",
        )  # fmt: skip
    result = caught.value.result
    assert isinstance(result, QuantizeResult)
    assert (result.verdict, result.output, result.evaluations) == ("inconclusive", None, 0)
    assert (result.bundle_id, result.method, result.bits, result.bytes) == (None,) * 4
    assert result.ratio_to_input is None
    assert result.samples_needed == 2_995_731
    assert "2,995,731 rows" in str(caught.value.hint)
    assert small.nothing_left()
    check_schema(to_json(result))


def test_a_budget_that_only_a_run_shows_to_be_impossible(small: Small) -> None:
    """Of other metrics the float graph is asked first: it answers as PyTorch, on too few rows."""
    with pytest.raises(BudgetNotMet, match="not even the graph in floating point") as caught:
        edgekit.quantize(
            small.bundle, small.output, data=small.data, reference=small.reference,
            max_drop="0.0001%", metric="f1-macro",
        )  # fmt: skip
    result = caught.value.result
    assert isinstance(result, QuantizeResult)
    assert (result.verdict, result.evaluations) == ("inconclusive", 0)
    assert result.samples_needed is not None
    assert f"{result.samples_needed:,} rows" in str(caught.value.hint)


def test_data_is_looked_at_before_the_original_is_loaded(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong path or column costs no minute."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the reference was loaded")

    monkeypatch.setattr(quantizing, "_load", never)
    x, label = rows(100)
    np.savez(small.folder / "classes.npz", x=x, classes=label)
    np.savez(small.folder / "other.npz", y=x)
    given: Mapping[str, object] = {"reference": small.reference, "max_drop": "5%"}
    for options, told in (
        ({"data": "none.npz"}, "no data at"),
        ({"data": str(small.folder / "classes.npz")}, "'classes' looks like labels"),
        ({"data": small.data, "calibration": str(small.folder / "other.npz")}, "no array 'x'"),
    ):
        with pytest.raises(ConfigError, match=told):
            edgekit.quantize(small.bundle, small.output, **{**given, **options})  # type: ignore[arg-type]


def test_an_input_that_is_off_already(small: Small) -> None:
    """Where the export has used up the budget, quantization is not searched for."""
    x, label = rows(1000)
    np.savez(small.data, x=x, label=(label + 1) % 4)
    wrong = small.folder / "other.py"
    module = (small.folder / "module.py").read_text()
    wrong.write_text(module.replace("@ self.second", "@ self.second.roll(1, 1)"))
    with pytest.raises(BudgetNotMet, match="The input alone drops accuracy"):
        edgekit.quantize(
            small.bundle, small.output, data=small.data, reference=f"{wrong}:make", max_drop="5%"
        )
    assert small.nothing_left()


@pytest.mark.parametrize("keep", [False, True])
def test_a_missed_budget_leaves_its_best_only_when_asked(
    small: Small, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """--keep leaves the closest candidate, with the same verdict against it."""
    real = Judge.evaluate

    def worse(judge: Judge, recipe: Recipe) -> Measured:
        found = real(judge, recipe)
        drop = replace(found.drop, value=0.06, low=0.03, high=0.09)
        return replace(found, drop=drop)

    monkeypatch.setattr(Judge, "evaluate", worse)
    with pytest.raises(BudgetNotMet) as caught:
        edgekit.quantize(
            small.bundle, small.output, data=small.data, reference=small.reference,
            max_drop="5%", method="dynamic", keep=keep,
        )  # fmt: skip
    result = caught.value.result
    assert isinstance(result, QuantizeResult)
    assert not any(one.taken for one in result.tried)
    assert result.evaluations <= 12
    assert (result.output is None) != keep
    if keep:
        assert edgekit.verify(small.output).passed
        assert str(small.output) in str(caught.value.hint)
    else:
        assert small.nothing_left()


def test_slower_than_its_input(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolved loss of speed is a missed gate, unless it is allowed."""
    speed(monkeypatch, 0.5, 0.9)
    with pytest.raises(BudgetNotMet, match="slower than its input") as caught:
        edgekit.quantize(small.bundle, small.output)
    assert "--allow-slower" in str(caught.value.hint)
    assert small.nothing_left()
    result = quantized(small, allow_slower=True)
    assert (result.verdict, result.output) == ("pass", small.output)
    assert result.latency is not None
    assert result.latency.speedup.high == 0.9
    assert any("slower than its input, which was allowed" in note for note in result.notes)
    assert not any("not resolved" in note for note in result.notes)


def test_slower_in_a_noisy_run(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise decides no gate on time: it is inconclusive, and the noise stands in the result."""
    noisy = Noise(1.1, 1.05, 1.15, "noisy", ("others ran",))
    found = replace(compared(0.5, 0.9), noise=noisy)
    monkeypatch.setattr(timing, "bench", lambda *_, **__: found)
    with pytest.raises(BudgetNotMet, match="The run was noisy") as caught:
        edgekit.quantize(small.bundle, small.output)
    result = caught.value.result
    assert isinstance(result, QuantizeResult)
    assert (result.verdict, result.noise) == ("inconclusive", noisy)
    assert result.workload == {"batch": 1}
    check_schema(to_json(result))


def test_speed_that_is_not_resolved_passes_and_is_said(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither faster nor slower is told, not refused."""
    speed(monkeypatch, 0.95, 1.05)
    result = quantized(small)
    assert result.verdict == "pass"
    assert any("not resolved" in note for note in result.notes)


def test_a_target_that_is_not_here(small: Small) -> None:
    """A bundle for another processor is built; that its speed is not measured is told."""
    result = quantized(small, target="cpu-arm64")
    assert (result.verdict, result.run_on, result.latency) == ("pass", None, None)
    assert any("on cpu-arm64 is not measured" in note for note in result.notes)
    assert open_bundle(small.output).manifest.evidence["run_on"] is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_drop": "1%"}, "--max-drop needs --data"),
        ({"metric": "f1"}, "--metric needs --data"),
        ({"data": "d.npz"}, "--data needs --reference"),
        ({"reference": "m.py:make"}, "--reference needs --data"),
        ({"columns": "x=y"}, "--columns"),
        ({"component": "encoder"}, "no component 'encoder'"),
        ({"target": "cuda", "engine": "onnxruntime", "method": "static"}, "has no --method static"),
        ({"method": "bfloat16", "engine": "onnxruntime"}, "bfloat16"),
        ({"method": "dynamic", "bits": 4}, "--bits 4"),
        ({"target": "nowhere"}, "nowhere"),
        ({"engine": "onnxruntime", "exclude": ("/third/*",)}, "/third/"),
        ({"engine": "openvino", "exclude": ("/third/*",)}, "/third/"),
        ({"calibration": "nothing.npz"}, "nothing.npz"),
    ],
)
def test_options_that_do_not_fit(small: Small, options: dict[str, object], told: str) -> None:
    """Each is told with exit code 2, and nothing is left."""
    with pytest.raises(ConfigError) as caught:
        edgekit.quantize(small.bundle, small.output, **options)  # type: ignore[arg-type]
    assert told in str(caught.value)
    assert small.nothing_left()


@pytest.mark.parametrize("stage", ["quantized", "compiled"])
def test_only_float_bundles_are_quantized(small: Small, stage: str) -> None:
    """What is quantized or compiled already has lost what it takes."""
    opened = open_bundle(small.bundle)
    manifest = replace(opened.manifest, stage=stage)
    (small.bundle / "edgekit.json").write_bytes(manifest.to_json())
    with pytest.raises(QuantizeError, match=stage) as caught:
        edgekit.quantize(small.bundle, small.output)
    assert caught.value.exit_code == 4
    assert small.nothing_left()


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_to_quantize(small: Small, engine: str) -> None:
    """A graph without weights is a step that failed."""
    bundle = small.folder / "linear"
    a = np.ones((2, 3), dtype=np.float32)
    write_bundle(bundle, linear_graph(), task="custom", golden_inputs={"a": a, "b": a})
    with pytest.raises(QuantizeError):
        edgekit.quantize(bundle, small.output, engine=engine)
    assert small.nothing_left()


def test_existing_output(small: Small) -> None:
    """It is replaced only when that is asked for, and a failure leaves it as it was."""
    first = quantized(small)
    with pytest.raises(ConfigError, match="exists"):
        edgekit.quantize(small.bundle, small.output)
    with pytest.raises(BudgetNotMet):
        edgekit.quantize(
            small.bundle, small.output, data=small.data, reference=small.reference,
            max_drop="0.0001%", force=True,
        )  # fmt: skip
    assert open_bundle(small.output).id == first.bundle_id
    assert quantized(small, method="weight-only", force=True).bundle_id != first.bundle_id


def test_output_in_a_folder_that_is_not_there(small: Small) -> None:
    """Missing folders above the output are made with it, and only with it."""
    deep = small.folder / "qs" / "deep" / "q"
    with pytest.raises(ConfigError):
        edgekit.quantize(small.bundle, deep, exclude=("nothing",))
    assert not (small.folder / "qs").exists()
    edgekit.quantize(small.bundle, deep)
    assert edgekit.verify(deep).passed
    assert [path.name for path in deep.parent.iterdir()] == ["q"]


def test_other_answers_without_vnni(
    small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A target that may lack VNNI gets no bundle that answers otherwise there than here."""
    monkeypatch.setattr(candidates, "find_emulator", lambda: ("qemu",))
    monkeypatch.setattr(
        candidates,
        "emulated_answers",
        lambda bundle, *_: {
            name: -values for name, values in read(bundle / "golden.safetensors").expected.items()
        },
    )
    refused = judged(small, target="cpu-x86", engine="onnxruntime")
    assert (refused.verdict, refused.output) == ("fail", None)
    assert any("On a processor without VNNI" in note for note in refused.notes)
    assert small.nothing_left()
    assert judged(small, target="cpu-x86-vnni", engine="onnxruntime").verdict == "pass"


@pytest.mark.parametrize("keep", [False, True])
def test_interrupted(small: Small, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    """Ctrl-C leaves nothing, or with --keep the best that was found, and says so."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "against_input", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        judged(small, keep=keep)
    if keep:
        assert "was left at" in str(caught.value)
        assert not open_bundle(small.output).manifest.judged_on_data
        assert edgekit.verify(small.output).passed
    else:
        assert small.nothing_left()


def test_interrupted_before_anything_was_found(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to keep yet."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "on", stop)
    with pytest.raises(KeyboardInterrupt):
        judged(small, keep=True)
    assert small.nothing_left()


def test_all_recipes_refused(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no recipe can be written, the reason is the error: no budget was missed."""

    def refuse(*_: object) -> None:
        raise QuantizeError("Its answers are NaN.")

    monkeypatch.setattr(Workshop, "write", refuse)
    with pytest.raises(QuantizeError, match="NaN"):
        edgekit.quantize(small.bundle, small.output)
    assert small.nothing_left()


def test_full_disk_ends_it(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other recipe is tried where none could be written."""
    tried: list[object] = []

    def full(workshop: Workshop, recipe: Recipe) -> None:
        tried.append(recipe)
        raise QuantizeError("The disk is full.") from OSError(28, "No space left on device")

    monkeypatch.setattr(Workshop, "write", full)
    with pytest.raises(EdgekitError, match="disk is full"):
        edgekit.quantize(small.bundle, small.output)
    assert len(tried) == 1


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_activations_of_what_generates_stay_as_they_are(tmp_path: Path, method: str) -> None:
    """Random tokens tell nothing of the ranges that real texts have."""
    bundle = write_generator(tmp_path / "b").path
    with pytest.raises(ConfigError, match=f"--method {method} rounds activations") as caught:
        edgekit.quantize(bundle, tmp_path / "q", method=method)
    assert "weight-only" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("auto", None), ("weight-only", 8)),
        (("auto", 4), ("weight-only", 4)),
        (("auto", 16), ("float16", 16)),
        (("weight-only", None), ("weight-only", None)),
    ],
)
def test_auto_is_the_weights_alone_where_a_model_generates(
    given: tuple[str, int | None], meant: tuple[str, int | None]
) -> None:
    """As a build asks: it names bits and no method."""
    assert quantizing._generating(*given) == meant
