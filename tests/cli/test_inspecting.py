"""What `edgekit inspect` tells a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgekit.cli.commands.inspecting import describe
from edgekit.core.bundle import Bundle
from edgekit.core.manifest import Origin, RuntimeChoice, Source, Step
from tests.core.conftest import make_manifest

VERSIONS = {"edgekit": "0.1.0", "openvino": "2026.4.1"}
ACCURACY = {
    "verdict": "inconclusive", "metric": "accuracy", "reference": 0.845, "candidate": 0.8428,
    "drop": 0.0026, "drop_lower_95": -0.0176, "drop_upper_95": 0.0176, "samples": 1200,
    "samples_needed": 2000, "drop_unit": "relative",
}  # fmt: skip
LATENCY = {
    "reference_ms": 50.0, "candidate_ms": 45.2,
    "speedup": {"value": 1.11, "low": 0.76, "high": 1.42},
}  # fmt: skip
SIZE = {"reference_bytes": 100, "candidate_bytes": 90, "ratio": 0.9}


def told(**changes: object) -> list[str]:
    """The lines about a bundle whose manifest has these values."""
    manifest = replace(make_manifest(), **changes)  # type: ignore[arg-type]
    return describe(Bundle(Path("b"), manifest)).splitlines()


def fact(name: str, evidence: Mapping[str, object]) -> str | None:
    """What is told under a name of a bundle with this evidence."""
    rows = [line.partition("  ") for line in told(evidence=evidence)]
    return next((rest.strip() for key, _, rest in rows if key == name), None)


def test_facts_of_a_step_are_told() -> None:
    """What a compiled bundle was compared with, and why it did not run; not the tables."""
    step = Step(
        "compile",
        seconds=1.5,
        versions=VERSIONS,
        facts={"compared": "PyTorch", "not_run": "no NPU", "components": {"model": {"opset": 1}}},
    )
    lines = told(steps=(step,))
    at = lines.index("  made with edgekit 0.1.0, openvino 2026.4.1")
    assert lines[at + 1 : at + 5] == [
        "  compile, 1.5 s", "    compared = PyTorch", "    not_run = no NPU", "",
    ]  # fmt: skip


def test_versions_are_told_once() -> None:
    """What all steps agree on stands above them; beside a step, what only it was made with."""
    later = {**VERSIONS, "openvino": "2026.5.0"}
    lines = told(
        steps=(Step("export", versions=VERSIONS), Step("compile", seconds=2, versions=later))
    )
    at = lines.index("steps")
    assert lines[at + 1 : at + 4] == [
        "  made with edgekit 0.1.0",
        "  export, 0.0 s, with openvino 2026.4.1",
        "  compile, 2.0 s, with openvino 2026.5.0",
    ]


def test_choice_is_told_in_words() -> None:
    """What was chosen against what, by how much and at which workload; not the measurements."""
    chosen_by = {
        "what": "allow_spinning on", "against": "allow_spinning off", "ratio": 1.1427,
        "low": 1.1107, "high": 1.2076, "workload": {"batch": 1, "length": 128}, "threads": 2,
        "rounds": 15, "measured": [{"name": "allow_spinning off"}],
    }  # fmt: skip
    line = next(row for row in told(runtime=RuntimeChoice({}, chosen_by)) if "spinning" in row)
    assert line.split("  ")[-1] == (
        "allow_spinning on: 1.14× as fast as allow_spinning off (1.11–1.21),"
        " at batch 1, length 128, threads 2"
    )


def test_choice_that_was_not_resolved() -> None:
    """A ratio whose interval holds 1 is not told as a gain; a single candidate has no ratio."""
    one = {"what": "defaults", "workload": {"batch": 1}, "threads": None}
    assert any(row.endswith("defaults, at batch 1") for row in told(runtime=RuntimeChoice({}, one)))
    two = {**one, "against": "other", "ratio": 1.01, "low": 0.99, "high": 1.02}
    assert any("(0.99–1.02, not resolved)" in row for row in told(runtime=RuntimeChoice({}, two)))


def test_choice_of_another_writer() -> None:
    """What a third party's compiler recorded is told as it is."""
    choice = RuntimeChoice({}, {"rule": "by hand", "workload": {"batch": 1}, "tried": [1, 2]})
    assert any("rule by hand, workload (batch 1)" in row for row in told(runtime=choice))


def test_recorded_evidence_is_told() -> None:
    """The verdict, the accuracy with its interval, and the speed with its own."""
    evidence = {
        "accuracy": ACCURACY, "latency": LATENCY, "size": SIZE,
        "basis": {"data": "d.csv", "date": "2026-01-02"},
        "workload": {"batch": 1, "length": 16, "threads": 2},
        "run_on": {"cpu": "Xeon", "system": "Linux 6", "version": "1"},
    }  # fmt: skip
    assert fact("run on", evidence) == "Xeon, Linux 6"
    assert fact("verdict", evidence) == "inconclusive (validate --record, 2026-01-02)"
    assert fact("accuracy", evidence) == (
        "0.8428, in PyTorch 0.8450: drop 0.26 % of the original's, 95 %"
        " interval −1.76 % to 1.76 % (by validate, 1,200 samples of d.csv, 2026-01-02)"
    )
    assert str(fact("speed", evidence)).replace("\N{NO-BREAK SPACE}", " ") == (
        "45.20 ms, in PyTorch 50.00 ms: 1.11× (0.76–1.42, not resolved), at 1 × 16, 2 threads"
    )


def test_what_was_judged_in_its_place_is_told() -> None:
    """A verdict that another device reached names it, and the precision it computed in."""
    basis = {"data": "d.csv", "date": "2026-01-02", "judged_on": "cpu", "precision": "fp32"}
    said = str(fact("verdict", {"accuracy": ACCURACY, "size": SIZE, "basis": basis}))
    assert said.endswith("2026-01-02, in its device's place on the cpu in fp32)")


def test_evidence_without_data_and_timing() -> None:
    """A verdict from tolerances says that there was no data; what was not measured has no line."""
    evidence = {"accuracy": {"verdict": "pass"}, "size": SIZE}
    assert "there was no data" in str(fact("verdict", evidence))
    assert fact("speed", evidence) is None
    assert fact("verdict", {}) is None


def test_strange_evidence_does_not_hide_the_bundle() -> None:
    """Evidence decides nothing: what cannot be read is said, and the rest is told."""
    evidence = {"accuracy": {"verdict": "pass", "metric": 3}, "size": SIZE, "run_on": "here"}
    assert str(fact("evidence", evidence)).startswith("not readable")
    assert fact("stage", evidence) == "exported"


QUANTIZED = Step(
    "quantize",
    facts={
        "recipe": {"scheme": "int8-dynamic", "smooth": 0.75, "levels": {"head": "float32"}},
        "components": {
            "model": {
                "kept_float": [
                    {"node": f"/{number}/MatMul", "reason": f"reason {number}"}
                    for number in range(22)
                ]
            }
        },
        "accuracy": {key: value for key, value in ACCURACY.items() if key != "verdict"},
        "latency": LATENCY,
        "judged_on": "movies.csv",
    },
)


def test_quantization_is_told() -> None:
    """The recipe, the accuracy against PyTorch and the speed against the input, with intervals."""
    rows = [line.partition("  ") for line in told(steps=(QUANTIZED,))]
    facts = {key: rest.strip() for key, _, rest in rows}
    assert facts["quantized"] == "int8-dynamic, smooth 0.75"
    assert facts["accuracy"].startswith("0.8428, in PyTorch 0.8450: drop 0.26 %")
    assert facts["accuracy"].endswith("(by quantize, 1,200 samples of movies.csv)")
    assert facts["speed"] == "45.20 ms, its input 50.00 ms: 1.11× (0.76–1.42, not resolved)"


def test_operators_kept_in_float_are_told_with_reasons() -> None:
    """As many as a screen holds, and how many more there are."""
    lines = told(steps=(QUANTIZED, Step("compile")))
    at = next(number for number, line in enumerate(lines) if line.startswith("kept in float"))
    shown = [line.split() for line in lines[at:]]
    assert ["/0/MatMul", "reason", "0"] in shown
    assert ["/19/MatMul", "reason", "19"] in shown
    assert ["and", "2", "more", "see", "--json"] in shown


def test_strange_facts_of_a_quantization_do_not_hide_the_bundle() -> None:
    """A step may have been written by anybody."""
    for facts in (
        {},
        {"recipe": "fast", "components": [1], "accuracy": 3},
        {"recipe": {}, "components": {"model": {"kept_float": [1, {"node": 2}]}}},
        {"accuracy": {"metric": 3}},
    ):
        lines = told(steps=(Step("quantize", facts=facts),))
        assert any(line.startswith("stage") for line in lines)
    assert any("not readable" in line for line in lines)


def test_two_accuracies_tell_what_each_rests_on() -> None:
    """One of quantize, one of validate: neither is shown without its rows."""
    lines = [
        line for line in told(steps=(QUANTIZED,), evidence={"accuracy": ACCURACY, "size": SIZE})
        if line.startswith("accuracy ")
    ]  # fmt: skip
    assert ["by quantize" in line for line in lines] == [True, False]
    assert ["by validate" in line for line in lines] == [False, True]


def test_what_was_built_and_not_run_is_told() -> None:
    """Where the manifest says that its device was not there."""
    lines = told(evidence={"run_on": None}, target={"name": "cuda"})
    assert any(line.split("  ")[-1].strip() == "nothing: built, not run on cuda" for line in lines)


def test_the_stored_type_is_the_sources() -> None:
    """An int8 bundle is not called float32: its own precision has a line."""
    origin = Origin("m", "0" * 64)
    source = Source("huggingface", "m", None, "0" * 64, "Bert", 5, "float32", None, origin)
    lines = told(steps=(Step("quantize", facts={"precision": "int8"}),), source=source)
    assert any(line.startswith("parameters") and line.endswith("in the source") for line in lines)
    assert any(line.startswith("precision ") and line.endswith("int8") for line in lines)
