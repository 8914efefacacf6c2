"""build: what is chosen, why the others are not, what is left and what is done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import ValidationError

import edgekit
from edgekit.core.built import BuildCandidate, BuildResult, BuildStep
from edgekit.core.bundle import open_bundle
from edgekit.core.cachefolder import VARIABLE
from edgekit.core.errors import (
    BudgetNotMet,
    CompileError,
    ConfigError,
    EdgekitError,
    EngineUnavailable,
    MeasurementError,
    MissingDependency,
    StepError,
)
from edgekit.core.measurements import (
    BenchResult,
    Contender,
    Noise,
    QuantizeResult,
    Ratio,
    ValidateResult,
    Verdict,
)
from edgekit.core.profiles import load_profile
from edgekit.core.results import to_json
from edgekit.pipeline import building
from edgekit.pipeline.building import build
from edgekit.pipeline.builds import budgets, proving, ranking, rungs
from edgekit.pipeline.builds.store import entries
from edgekit.reporting.writing import load_result
from tests.pipeline.quantizable import Small, make_small, speed
from tests.schemas import SCHEMAS, check_schema_of

ORT, OV = "onnxruntime", "openvino"
FAR = "far.toml"
# One that this machine is not, without limits: they would ask for a measurement.
PROFILE = """
name = "far"
engines = ["onnxruntime", "openvino"]
device = "cpu"
arch = "arm64"
features = ["neon"]
precisions = ["int8", "fp32"]
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """The small classifier, already exported, with a cache of its own.

    Every comparison with the original comes out as 1.75 times as fast.
    """
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path(FAR).write_text(PROFILE)
    made = make_small(tmp_path)
    speed(monkeypatch)
    monkeypatch.setattr(
        rungs, "export", lambda _, output, **__: shutil.copytree(made.bundle, output)
    )
    return made


def built(small: Small, **options: object) -> BuildResult:
    """With data, for a target that is not this machine, on one engine, whatever the verdict."""
    given: Mapping[str, object] = {
        "target": FAR, "engine": ORT, "data": small.data, "max_drop": "5%", **options,
    }  # fmt: skip
    try:
        return build(small.reference, small.output, **given)  # type: ignore[arg-type]
    except BudgetNotMet as error:
        result = error.result
    assert isinstance(result, BuildResult)
    return result


def measured(patch: pytest.MonkeyPatch, *speeds: float) -> None:
    """Let the target be this machine, on which the candidates, in order, are so fast."""

    def bench(paths: Sequence[Path], *_: object, **__: object) -> BenchResult:
        contenders = tuple(
            Contender(
                path.name, ORT, 1, None, 1.0, None, None, None, None, None, None, None, None, None,
                60, 6,
            )
            for path in paths
        )  # fmt: skip
        ratios = tuple(
            Ratio(paths[0].name, path.name, 1, None, value, value, value, 1.0, "faster")
            for path, value in zip(paths, speeds, strict=True)
            if path != paths[0]
        )
        return BenchResult({}, {}, {}, contenders, ratios, Noise(1.0, 0.99, 1.01, "quiet", ()))

    patch.setattr(ranking, "bench", bench)
    patch.setattr(ranking, "elsewhere", lambda _: None)


def failing(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the validation of these precisions find too much of a drop."""

    def validate(path: Path, **options: object) -> ValidateResult:
        result = edgekit.validate(path, **options)  # type: ignore[arg-type]
        steps = [step.step for step in open_bundle(path, check="quick").manifest.steps]
        if ("int8" if "quantize" in steps else "fp32") not in names:
            return result
        raise BudgetNotMet("It drops too much.", result=replace(result, verdict="fail"))

    patch.setattr(proving, "validate", validate)


def candidate(result: BuildResult, name: str) -> BuildCandidate:
    """The one of that name."""
    (found,) = (one for one in result.candidates if one.name == name)
    return found


def ran(result: BuildResult) -> list[str]:
    """The steps that were not found in the cache, but for the export and the validation."""
    return [
        f"{one.step} {one.what}"
        for one in result.steps
        if not one.cached and one.step in ("quantize", "compile")
    ]


def test_fastest_is_chosen(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is validated against the original, with its speed, and lies at the output."""
    measured(monkeypatch, 1.0, 3.0)
    result = built(small)
    assert (result.verdict, result.chosen) == ("pass", f"{ORT} int8")
    assert result.output == small.output
    best, other = candidate(result, f"{ORT} int8"), candidate(result, f"{ORT} fp32")
    assert (best.chosen, best.verdict, other.chosen) == (True, "pass", False)
    assert best.reason.startswith(f"3.00× {ORT} fp32")
    assert best.accuracy is not None
    assert best.accuracy.drop_upper_95 <= 0.05
    assert best.latency is not None
    assert other.accuracy is None
    assert best.bytes is not None
    assert other.bytes is not None
    assert best.bytes < other.bytes
    assert [one.step for one in result.steps] == [
        "export", "compile", "quantize", "compile", "validate",
    ]  # fmt: skip


def test_what_lies_at_the_output(small: Small) -> None:
    """A whole bundle with its evidence, the whole result and a page, that answers and verifies."""
    result = built(small)
    bundle = open_bundle(small.output)
    assert (bundle.id, bundle.manifest.name) == (result.bundle_id, "q")
    assert bundle.manifest.stage == "compiled"
    accuracy = bundle.manifest.evidence["accuracy"]
    assert isinstance(accuracy, dict)
    assert accuracy["samples"] > 600
    assert bundle.manifest.evidence["run_on"] is None
    assert {entry.path for entry in bundle.manifest.files if entry.role == "evidence"} == {
        "report.html", "report.json",
    }  # fmt: skip
    page = bundle.file("report.html").read_text(encoding="utf-8")
    report = json.loads(bundle.file("report.json").read_bytes())
    assert report == load_result(small.output)
    assert report["verdict"] == "pass"
    for one in result.candidates:
        assert one.name in page
        assert any(note.startswith(f"{one.name}: ") for note in report["notes"])
    assert edgekit.verify(small.output).passed


def test_not_faster(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A less exact candidate that gains nothing is rejected with what was measured."""
    measured(monkeypatch, 1.0, 0.9)
    result = built(small)
    assert result.chosen == f"{ORT} fp32"
    rejected = candidate(result, f"{ORT} int8")
    assert rejected.reason.startswith(f"not faster than {ORT} fp32, which is more exact: 0.900×")
    assert (rejected.verdict, rejected.chosen) == ("inconclusive", False)


def test_falls_back_to_the_more_exact_one(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the fastest does not pass, the next one is validated."""
    measured(monkeypatch, 1.0, 3.0)
    failing(monkeypatch, "int8")
    result = built(small)
    assert (result.verdict, result.chosen) == ("pass", f"{ORT} fp32")
    missed = candidate(result, f"{ORT} int8")
    assert (missed.verdict, missed.chosen, missed.reason) == ("fail", False, "It drops too much")
    assert [one.what for one in result.steps if one.step == "validate"] == [
        f"{ORT} int8", f"{ORT} fp32",
    ]  # fmt: skip


def test_both_engines(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine of the target has its candidates; the best of all is chosen."""
    measured(monkeypatch, 1.0, 2.0, 4.0, 3.0)
    result = built(small, engine=None, data=None, max_drop=None)
    assert [one.name for one in result.candidates] == [
        f"{ORT} fp32", f"{ORT} int8", f"{OV} fp32", f"{OV} int8",
    ]  # fmt: skip
    assert result.chosen == f"{OV} fp32"
    assert candidate(result, f"{OV} int8").reason.startswith(f"not faster than {OV} fp32")
    assert open_bundle(small.output).manifest.requires.engine == OV


def test_impossible_budget(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few rows for any candidate is exit 5 before one is made, and nothing is left."""
    before = sorted(small.folder.iterdir())

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a candidate was made")

    monkeypatch.setattr(rungs, "compile", never)
    with pytest.raises(BudgetNotMet, match="cannot be proved on") as caught:
        build(small.reference, small.output, target=FAR, engine=ORT, data=small.data,
              max_drop="0.0001%", cache=False)  # fmt: skip
    result = caught.value.result
    assert isinstance(result, BuildResult)
    assert (result.verdict, result.output, result.chosen, result.bundle_id) == (
        "inconclusive", None, None, None,
    )  # fmt: skip
    assert result.samples_needed == 2_995_731
    assert [one.step for one in result.steps] == ["export"]
    assert sorted(small.folder.iterdir()) == before


@pytest.mark.parametrize(("verdict", "code"), [("fail", "fail"), ("inconclusive", "inconclusive")])
def test_no_candidate_passes(
    small: Small, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, code: str
) -> None:
    """The whole is a failure unless all that was judged was inconclusive."""

    def validate(path: Path, **options: object) -> ValidateResult:
        result = edgekit.validate(path, **options)  # type: ignore[arg-type]
        raise BudgetNotMet("No.", result=replace(result, verdict=verdict))

    monkeypatch.setattr(proving, "validate", validate)
    before = sorted(path for path in small.folder.iterdir() if path.name != "cache")
    result = built(small)
    assert (result.verdict, result.chosen, len(result.candidates)) == (code, None, 2)
    assert all(one.reason and not one.chosen for one in result.candidates)
    assert sorted(path for path in small.folder.iterdir() if path.name != "cache") == before


@pytest.mark.parametrize("target", ["cuda", "openvino-gpu"])
def test_device_that_is_not_here(small: Small, target: str) -> None:
    """The same graph is judged on this CPU, and the bundle that ships says so and asks for it."""
    result = built(small, target=target, engine=None)
    assert (result.verdict, result.target) == ("pass", target)
    assert result.not_run is not None
    bundle = open_bundle(small.output)
    assert bundle.manifest.evidence["run_on"] is None
    assert bundle.manifest.evidence["accuracy"]["samples"] > 600  # type: ignore[index,call-overload]
    assert bundle.manifest.runtime.options["device"] == {"cuda": "cuda"}.get(target, "gpu")
    assert result.validation is not None
    assert result.validation.bundle["bundle_id"] == bundle.id == result.bundle_id
    assert result.validation.latency is None
    assert result.chosen is not None
    assert result.validation.bundle["precision"] == result.chosen.split()[1]
    basis = bundle.manifest.evidence["basis"]
    assert isinstance(basis, dict)
    assert basis["judged_on"] == "cpu"
    if target == "cuda":
        # ONNX Runtime's CPU kernels compute in float32 whatever is stored.
        assert basis["precision"] == "fp32"
    assert any(
        note.startswith(f"Built, not run on {target}: ") and "this machine's CPU" in note
        for note in result.validation.notes
    )
    assert "Built, not run on" in bundle.file("report.html").read_text(encoding="utf-8")


def no_kernels(patch: pytest.MonkeyPatch) -> None:
    """Let this CPU refuse whatever stands in for a device's bundle."""

    def refuse(*_: object) -> None:
        raise EngineUnavailable("No kernel for it.")

    patch.setattr(proving, "stand_in", refuse)


def test_budget_that_nothing_here_can_judge(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DATA a budget is asked for: what this CPU has no kernels for is not said to keep it."""
    no_kernels(monkeypatch)
    with pytest.raises(BudgetNotMet, match="Built, not run: none of 2 candidates") as caught:
        build(small.reference, small.output, target="cuda", data=small.data, max_drop="5%")
    result = caught.value.result
    assert isinstance(result, BuildResult)
    assert (result.verdict, result.chosen) == ("inconclusive", None)
    assert all("No kernel for it" in one.reason for one in result.candidates)
    assert small.nothing_left()


def test_device_that_nothing_here_stands_in_for(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DATA the first by the profile's order is left as it was built, and says so."""
    no_kernels(monkeypatch)
    result = build(small.reference, small.output, target="cuda")
    first = f"{ORT} {load_profile('cuda').precisions[0]}"
    assert (result.chosen, result.verdict, result.validation) == (first, "inconclusive", None)
    assert [one.name for one in result.candidates if one.chosen] == [first]
    assert result.not_run
    assert any(note.startswith("Built, not run on cuda: ") for note in result.notes)
    bundle = open_bundle(small.output)
    assert (bundle.id, bundle.manifest.name) == (result.bundle_id, "q")
    assert bundle.manifest.evidence == {"run_on": None}
    check_schema(to_json(result))


def test_no_working_folder_is_told(small: Small) -> None:
    """What a build says names no folder that is gone when it ends."""
    told: list[str] = []
    built(small, progress=told.append)
    assert told
    assert not any(str(small.folder / ".q") in line for line in told)


def test_columns_are_looked_at_before_a_candidate_is_made(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels under another name are an error where a budget was asked for."""
    with np.load(small.data) as stored:
        np.savez(small.folder / "e.npz", x=stored["x"], classes=stored["label"])

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a candidate was made")

    monkeypatch.setattr(rungs, "compile", never)
    with pytest.raises(ConfigError, match="'classes' looks like labels"):
        built(small, data=str(small.folder / "e.npz"))
    with pytest.raises(ConfigError, match="no data at"):
        built(small, calibration="none.npz")


def test_target_that_is_not_this_machine(small: Small) -> None:
    """The profile's order decides, and speed is said to be unmeasured, in the bundle too."""
    result = built(small)
    assert result.chosen == f"{ORT} int8"
    best = candidate(result, f"{ORT} int8")
    assert best.latency is None
    assert best.reason.startswith("by the profile's order; not measured: this machine is")
    assert any("not measured: this machine" in note for note in load_result(small.output)["notes"])  # type: ignore[attr-defined]
    assert "latency" not in open_bundle(small.output).manifest.evidence


def test_for_size(small: Small) -> None:
    """The smallest that passes is chosen, whatever its speed."""
    result = built(small, optimize_for="size", engine=None)
    smallest = min(result.candidates, key=lambda one: one.bytes or 0)
    assert (smallest.chosen, smallest.name) == (True, result.chosen)


def test_for_throughput(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The goal reaches the ranking."""
    seen: list[str] = []

    def rank(*given: object) -> ranking.Speeds:
        seen.append(str(given[2]))
        return ranking.rank(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(building, "rank", rank)
    built(small, optimize_for="throughput")
    assert seen == ["throughput"]


def test_without_data(small: Small) -> None:
    """The tolerance of the precision decides, and the result says so."""
    result = built(small, data=None, max_drop=None)
    assert (result.verdict, result.chosen) == ("pass", f"{ORT} int8")
    assert candidate(result, f"{ORT} int8").accuracy is None
    assert result.validation is not None
    assert result.validation.numerics["logits"].cosine is not None


def test_again_only_what_changed(small: Small) -> None:
    """The same build again makes nothing; a changed option, what depends on it."""
    first = built(small)
    assert ran(first) == [f"compile {ORT} fp32", f"quantize {ORT} int8", f"compile {ORT} int8"]
    again = built(small, force=True)
    assert (ran(again), again.bundle_id) == ([], first.bundle_id)
    assert ran(built(small, force=True, optimize_for="size")) == []
    budget = built(small, force=True, max_drop="6%")
    assert ran(budget)[:1] == [f"quantize {ORT} int8"]
    assert f"compile {ORT} fp32" not in ran(budget)
    more = built(small, force=True, engine=None)
    assert all(OV in step for step in ran(more))


def test_what_quantize_told_is_told(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notes of the step that made the chosen one, also where it is found in the cache."""
    told = "On a processor without VNNI the answers are the same."

    def tell(*given: object, **options: object) -> QuantizeResult:
        result = edgekit.quantize(*given, **options)  # type: ignore[arg-type]
        return replace(result, notes=(*result.notes, told))

    monkeypatch.setattr(rungs, "quantize", tell)
    for force in (False, True):
        result = built(small, force=force)
        assert result.validation is not None
        assert result.chosen == f"{ORT} int8"
        assert [notes.count(told) for notes in (result.notes, result.validation.notes)] == [1, 1]


def test_emulator_that_was_not_there(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """What QEMU can say of a candidate's answers is part of its verdict."""
    monkeypatch.setattr(rungs, "find_emulator", lambda: None)
    built(small)
    assert ran(built(small, force=True)) == []
    monkeypatch.setattr(rungs, "find_emulator", lambda: ("qemu-x86_64", "-cpu", "any"))
    assert ran(built(small, force=True))[0] == f"quantize {ORT} int8"


def test_other_data_are_other_candidates(small: Small) -> None:
    """Only what was chosen by the rows is made again when they change."""
    built(small)
    rows = Path(small.data).read_bytes()
    copy = small.folder / "copy.npz"
    copy.write_bytes(rows)
    assert ran(built(small, data=str(copy), force=True)) == []
    with np.load(small.data) as stored:
        np.savez(copy, x=stored["x"][:900], label=stored["label"][:900])
    assert ran(built(small, data=str(copy), force=True))[0] == f"quantize {ORT} int8"


def test_own_metric_is_never_from_the_cache(small: Small) -> None:
    """The code of a function may change while its name stays."""
    own = small.folder / "own.py"
    own.write_text(
        "def score(predictions, labels):\n"
        "    return float((predictions.argmax(axis=-1) == labels).mean())\n"
    )
    for force in (False, True):
        result = built(small, metric=f"{own}:score", force=force)
        assert f"quantize {ORT} int8" in ran(result)


def test_without_the_cache(small: Small) -> None:
    """Nothing is kept, and nothing is taken."""
    built(small, cache=False)
    assert entries() == []
    built(small, force=True)
    assert f"compile {ORT} fp32" in ran(built(small, cache=False, force=True))


def test_failures_are_not_kept(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that could not be made is tried again the next time."""

    def fail(*_: object, **__: object) -> None:
        raise CompileError("The engine crashed.")

    with monkeypatch.context() as patch:
        patch.setattr(rungs, "quantize", fail)
        first = built(small)
    assert candidate(first, f"{ORT} int8") == BuildCandidate(
        f"{ORT} int8", "fail", None, None, None, False, "The engine crashed"
    )
    assert first.chosen == f"{ORT} fp32"
    assert built(small, force=True).chosen == f"{ORT} int8"


@pytest.mark.parametrize(
    "error", [CompileError, MissingDependency, EngineUnavailable], ids=lambda kind: kind.__name__
)
def test_no_candidate_can_be_made(
    small: Small, monkeypatch: pytest.MonkeyPatch, error: type[EdgekitError]
) -> None:
    """What stops all candidates of all engines alike is raised itself, with its exit code."""

    def fail(*_: object, **__: object) -> None:
        raise error(f"{small.folder}/.q/made/x is not there.", hint="Mend it.")

    monkeypatch.setattr(rungs, "quantize", fail)
    monkeypatch.setattr(rungs, "compile", fail)
    for engine in (ORT, None):
        with pytest.raises(error, match="is not there") as caught:
            build(small.reference, small.output, target=FAR, engine=engine)
        assert type(caught.value) is error
        assert caught.value.hint == "Mend it."
        assert small.nothing_left()


def test_candidates_that_cannot_be_made_for_several_reasons(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is a failed step with the first of the reasons, not a missed budget."""

    def fail(*_: object, engine: str, **__: object) -> None:
        raise CompileError("It crashed.") if engine == ORT else EngineUnavailable("None here.")

    monkeypatch.setattr(rungs, "quantize", fail)
    monkeypatch.setattr(rungs, "compile", fail)
    with pytest.raises(StepError, match="for far could be made: It crashed"):
        build(small.reference, small.output, target=FAR)


def test_missing_package_of_the_only_engine(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the engine that was named it is an error; of one of several, that candidate's reason."""

    def compile_some(path: Path, output: Path, **options: object) -> None:
        if options["engine"] == OV:
            raise MissingDependency("openvino is not installed.", hint="pip install it")
        edgekit.compile(path, output, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rungs, "compile", compile_some)
    result = built(small, engine=None, optimize_for="size")
    assert result.chosen == f"{ORT} int8"
    assert candidate(result, f"{OV} fp32").reason == "openvino is not installed"
    with pytest.raises(MissingDependency, match="openvino is not installed"):
        built(small, engine=OV, force=True)


def test_candidate_that_cannot_be_judged(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of one is its own reason, and the next one is judged; of all, it is the error."""

    def validate(path: Path, **options: object) -> ValidateResult:
        steps = [step.step for step in open_bundle(path, check="quick").manifest.steps]
        if "quantize" in steps or every:
            raise MeasurementError("The contender crashed.")
        return edgekit.validate(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(proving, "validate", validate)
    every = False
    result = built(small)
    assert (result.verdict, result.chosen) == ("pass", f"{ORT} fp32")
    crashed = candidate(result, f"{ORT} int8")
    assert (crashed.verdict, crashed.chosen) == ("fail", False)
    assert crashed.reason == "could not be judged: The contender crashed"
    every = True
    with pytest.raises(MeasurementError, match="The contender crashed"):
        built(small, force=True)


def test_rows_that_calibrate_do_not_judge(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too few are left no quantized candidate is made; of the others all rows judge."""
    with np.load(small.data) as stored:
        np.savez(small.folder / "e.npz", x=stored["x"][:400], label=stored["label"][:400])
    data = str(small.folder / "e.npz")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a candidate was quantized")

    monkeypatch.setattr(rungs, "quantize", never)
    result = built(small, data=data, calibration=data)
    assert result.chosen == f"{ORT} fp32"
    assert "--calibration do not judge" in candidate(result, f"{ORT} int8").reason


def test_numbers_as_labels(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that does not say what it solves is not refused for labels that are no classes."""
    asked: list[str | None] = []

    def read(bundle: object, problem: str | None, *_: object, **__: object) -> None:
        asked.append(problem)
        if problem != "regression" or fails:
            raise ConfigError("Row 1: 0.5 is no class.")

    monkeypatch.setattr(budgets, "read_verdict_rows", read)
    fails = False
    assert built(small).chosen == f"{ORT} int8"
    assert asked == [None, "regression"]
    fails = True
    with pytest.raises(ConfigError, match="is no class"):
        built(small, force=True)


def test_two_numbers_per_row(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle whose scores are taken as they are is a regression, however many labels it has."""
    opened = open_bundle(small.bundle)
    asked: list[str | None] = []

    def read(bundle: object, problem: str | None, *_: object, **__: object) -> None:
        asked.append(problem)
        raise ConfigError("Stop here.")

    post = {"kind": "classification", "activation": "none", "top_k": 1}
    manifest = replace(opened.manifest, processor={"post": post})
    monkeypatch.setattr(building, "exported_by", lambda _: replace(opened, manifest=manifest))
    monkeypatch.setattr(budgets, "check_rows", lambda *_, **__: None)
    monkeypatch.setattr(budgets, "read_verdict_rows", read)
    with pytest.raises(ConfigError, match="Stop here"):
        built(small)
    assert asked == ["regression"]


def check_schema(value: object) -> None:
    """Hold a result to the published schema."""
    check_schema_of("build", value)


def test_result_fits_the_schema(small: Small) -> None:
    """Chosen or not, and nothing that the schema does not name."""
    found = built(small)
    check_schema(to_json(found))
    check_schema(to_json(built(small, max_drop="0.0001%", force=True)))
    with pytest.raises(ValidationError, match="surplus"):
        check_schema({**to_json(found), "surplus": 1})  # type: ignore[dict-item]


def test_schema_names_every_field() -> None:
    """A new field of a record is a line in the schema."""
    schema = SCHEMAS.contents("build.schema.json")
    for name, record in (("step", BuildStep), ("candidate", BuildCandidate)):
        names = {one.name for one in fields(record)}
        assert set(schema["$defs"][name]["properties"]) == names
        assert set(schema["$defs"][name]["required"]) == names
    names = {one.name for one in fields(BuildResult)}
    assert set(schema["properties"]) == names | {"error"}
    assert set(schema["required"]) == names


def test_interrupted(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves nothing beside the output."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(proving, "validate", stop)
    with pytest.raises(KeyboardInterrupt):
        build(small.reference, small.output, target=FAR, engine=ORT)
    assert small.nothing_left()


def test_kept_bundles_are_not_written_to(small: Small) -> None:
    """The evidence goes into the output alone: what is cached stays as it was made."""
    built(small)
    kept = [open_bundle(entry.path / "bundle") for entry in entries()]
    assert len(kept) == 3
    assert all("accuracy" not in one.manifest.evidence for one in kept if one.manifest.target)
    built(small, force=True)
    assert [open_bundle(one.path).manifest for one in kept] == [one.manifest for one in kept]


def test_output_in_a_folder_that_is_not_there(small: Small) -> None:
    """It is made."""
    output = small.folder / "new" / "er" / "q"
    result = build(small.reference, output, target=FAR, engine=ORT)
    assert result.output == output
    assert open_bundle(output).id == result.bundle_id


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_drop": "1%"}, "--max-drop needs --data"),
        ({"metric": "f1"}, "--metric needs --data"),
        ({"columns": "text=review"}, "--columns"),
        ({"data": "d.npz", "max_drop": "many"}, "many"),
        ({"optimize_for": "beauty"}, "--optimize-for"),
        ({"target": "cpu-x68"}, "cpu-x86"),
        ({"engine": "tensorrt"}, "tensorrt"),
        ({"overrides": ("precission=fp32",)}, "precission"),
    ],
)
def test_wrong_options(
    small: Small, monkeypatch: pytest.MonkeyPatch, options: Mapping[str, object], told: str
) -> None:
    """They are refused before anything is exported."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("exported")

    monkeypatch.setattr(rungs, "export", never)
    with pytest.raises(ConfigError) as caught:
        build(small.reference, small.output, **options)  # type: ignore[arg-type]
    assert told in f"{caught.value.message} {caught.value.hint}"
    assert small.nothing_left()


def test_processor_reaches_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's own processing is declared to `build` as to `export`."""

    def refuse(*_: object, **options: object) -> None:
        raise ConfigError(f"with {options['processor']}")

    monkeypatch.setattr("edgekit.pipeline.builds.rungs.export", refuse)
    with pytest.raises(ConfigError, match=r"with .*net\.toml"):
        build("net.py:build", tmp_path / "b", processor=tmp_path / "net.toml", cache=False)
