"""What a validation leaves in the manifest: of which run, on what, and what it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import open_bundle, replace_evidence
from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Contender,
    Gate,
    Interval,
    Latency,
    Noise,
    Numerics,
    Size,
    ValidateResult,
)
from edgekit.pipeline.builds.proving import write_proved
from edgekit.pipeline.recording import data_hash, record_evidence
from edgekit.reporting.reading import evidence_result
from edgekit.reporting.writing import load_result
from tests.runtime.conftest import linear_graph, write_bundle

# How a picture begins.
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A bundle to record in."""
    return write_bundle(tmp_path / "b", linear_graph(), task="custom").path


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A DATA file."""
    path = tmp_path / "movies.csv"
    path.write_text("x")
    return str(path)


def evidence(bundle: Path) -> Mapping[str, object]:
    """What the manifest holds now."""
    return open_bundle(bundle).manifest.evidence


def rested(result: ValidateResult, **changes: object) -> ValidateResult:
    """The same result of an accuracy with these values."""
    assert result.accuracy is not None
    return replace(result, accuracy=replace(result.accuracy, **changes))  # type: ignore[arg-type]


def timed_elsewhere() -> ValidateResult:
    """A validation with a measurement, on another device."""
    row = Contender("b", "onnxruntime", 1, 16, 2.0, None, None, None, 500.0, 1.0, 1.0, 1.0, 5, 5,
                    9, 5)  # fmt: skip
    noise = Noise(1.0, 0.9, 1.1, "noisy", ("others ran",))
    timed = BenchResult({}, {}, {}, (row,), (), noise)
    latency = Latency(10.0, 2.0, Interval(5.0, 4.0, 6.0))
    accuracy = Accuracy("accuracy", 0.9, 0.89, 0.011, 0.0, 0.02, 500, None)
    gates = (Gate("max_drop", 0.05, 0.011, True), Gate("max_size_mb", 1.0, None, None))
    return ValidateResult(
        "pass", accuracy, {"y": Numerics(0.1, 0.01, 0.99, 1.0)}, latency, Size(10, 10, 1.0), gates,
        {"cpu": "board"}, {"edgekit": "0"}, timing=timed,
    )  # fmt: skip


@pytest.mark.parametrize("stood_in", [None, {"judged_on": "cpu", "precision": "fp32"}])
def test_what_was_judged_on_its_device_was_run(
    linear: Path, stood_in: Mapping[str, object] | None
) -> None:
    """A built-only bundle has been run by who validates it, and not where another stood in."""
    replace_evidence(open_bundle(linear), {"run_on": None, "latency": {"old": 1}})
    result = timed_elsewhere()
    record_evidence(open_bundle(linear), result, stood_in=stood_in)
    recorded = evidence(linear)
    assert recorded["run_on"] == ({"cpu": "board"} if stood_in is None else None)
    if stood_in is not None:
        assert {**recorded["basis"], **stood_in} == recorded["basis"]  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "target",
    [{"arch": "arm64"}, {"arch": "x86_64", "features": ["amx"]}, {"device": "cuda"}],
    ids=["arch", "features", "device"],
)
def test_what_ran_elsewhere_was_not_run_on_its_target(
    linear: Path, target: Mapping[str, object]
) -> None:
    """A bundle that opens on another machine too is not said to have met its target."""
    opened = open_bundle(linear)
    manifest = replace(opened.manifest, target={"name": "far", **target}, evidence={"run_on": None})
    (linear / "edgekit.json").write_bytes(manifest.to_json())
    here = {"cpu": "Xeon", "arch": "x86_64", "cpu_features": ["avx2"]}
    record_evidence(open_bundle(linear), replace(timed_elsewhere(), device=here))
    assert evidence(linear)["run_on"] is None


def test_threads_are_those_it_ran_with(linear: Path) -> None:
    """A bundle that has fewer of its own is not recorded with those of the run."""
    result = timed_elsewhere()
    assert result.timing is not None
    protocol = {"threads": 2, "facts": {"b": {"threads": 1}}}
    record_evidence(
        open_bundle(linear), replace(result, timing=replace(result.timing, protocol=protocol))
    )
    assert evidence(linear)["workload"] == {"batch": 1, "length": 16, "threads": 1}


def test_a_record_is_of_one_run(linear: Path) -> None:
    """A speed of the board is never shown as that of the workstation."""
    record_evidence(open_bundle(linear), timed_elsewhere())
    recorded = evidence(linear)
    assert recorded["latency"]["speedup"]["value"] == 5  # type: ignore[index]
    assert recorded["noise"]["verdict"] == "noisy"  # type: ignore[index]
    here = replace(timed_elsewhere(), latency=None, timing=None, device={"cpu": "workstation"})
    told = record_evidence(open_bundle(linear), here)
    assert "removed: the latency and memory" in told
    recorded = evidence(linear)
    assert recorded["device"] == {"cpu": "workstation"}
    assert not {"latency", "memory", "noise"} & set(recorded)


def test_a_record_on_fewer_rows_does_not_replace(linear: Path, data: str) -> None:
    """The same answer to the same question on more rows stays unless that is asked for."""
    strong = timed_elsewhere()
    record_evidence(open_bundle(linear), strong, data=data)
    kept = evidence(linear)
    weak = rested(strong, samples=40)
    said = record_evidence(open_bundle(linear), weak, data=data)
    assert said.startswith("Not recorded: ")
    assert "a verdict (pass) on 500 rows of movies.csv" in said
    assert "40 rows of movies.csv" in said
    assert "--record --force" in said
    assert evidence(linear) == kept
    said = record_evidence(open_bundle(linear), weak, data=data, force=True)
    assert "It replaces a verdict (pass) on 500 rows of movies.csv." in said
    assert evidence(linear)["accuracy"]["samples"] == 40  # type: ignore[index]


@pytest.mark.parametrize("with_data", [True, False])
def test_a_failure_replaces(linear: Path, data: str, with_data: bool) -> None:
    """What is known to fail is not kept as a pass, on however few rows it does."""
    strong = timed_elsewhere()
    record_evidence(open_bundle(linear), strong, data=data)
    failed = replace(rested(strong, samples=40), verdict="fail")
    if not with_data:
        failed = replace(failed, accuracy=None)
    record_evidence(open_bundle(linear), failed, data=data if with_data else None)
    assert evidence(linear)["accuracy"]["verdict"] == "fail"  # type: ignore[index]


@pytest.mark.parametrize("changed", ["metric", "budget", "unit", "data", "device"])
def test_a_record_of_another_question_replaces(linear: Path, data: str, changed: str) -> None:
    """Fewer rows are no weaker answer where it is another question that they answer."""
    strong = timed_elsewhere()
    record_evidence(open_bundle(linear), strong, data=data)
    few = rested(strong, samples=40)
    if changed == "data":
        # The name is the same.
        Path(data).write_text("y")
    other = {
        "metric": rested(few, metric="f1-macro"),
        "budget": replace(few, gates=(Gate("max_drop", 0.01, 0.0, True),)),
        "unit": rested(few, drop_unit="points"),
        "data": few,
        "device": replace(few, device={"cpu": "workstation"}),
    }[changed]
    assert record_evidence(open_bundle(linear), other, data=data).startswith("Recorded in")
    assert evidence(linear)["accuracy"]["samples"] == 40  # type: ignore[index]


def test_few_rows_that_decide_nothing_do_not_replace(linear: Path, data: str) -> None:
    """More rows have decided already."""
    strong = timed_elsewhere()
    record_evidence(open_bundle(linear), strong, data=data)
    few = replace(rested(strong, samples=40), verdict="inconclusive")
    assert record_evidence(open_bundle(linear), few, data=data).startswith("Not recorded")
    assert evidence(linear)["accuracy"]["verdict"] == "pass"  # type: ignore[index]


def test_a_run_without_data_adds_what_it_timed(linear: Path, data: str) -> None:
    """The verdict on DATA stays as it is, with what it rests on."""
    before = replace(timed_elsewhere(), latency=None, timing=None)
    record_evidence(open_bundle(linear), before, data=data)
    kept = evidence(linear)
    assert "latency" not in kept
    timed = replace(timed_elsewhere(), accuracy=None, gates=())
    said = record_evidence(open_bundle(linear), timed)
    assert "latency and memory" in said
    assert "keeps a verdict (pass) on 500 rows of movies.csv" in said
    recorded = evidence(linear)
    assert {key: recorded[key] for key in kept} == kept
    assert set(recorded) - set(kept) == {"latency", "memory", "noise", "workload"}


def test_the_hash_of_data(tmp_path: Path, data: str) -> None:
    """Of a file, of one file of a folder, of a folder of pictures; an id has none."""
    found = data_hash(data)
    assert found is not None
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "train.csv").write_text("x")
    assert data_hash(f"{tmp_path / 'copy'}#train") == found
    assert data_hash("org/set#test") is None
    # Rows name pictures, which are elsewhere.
    assert data_hash(data, media=True) is None
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").write_bytes(PNG + name.encode())
    pictures = data_hash(str(tmp_path / "pictures"))
    (tmp_path / "pictures" / "cat" / "1.png").write_bytes(PNG + b"another")
    assert pictures not in (None, data_hash(str(tmp_path / "pictures")))
    assert data_hash(str(tmp_path / "pictures"), media=True) is not None


def test_a_whole_result_gives_way_to_a_later_record(linear: Path, tmp_path: Path) -> None:
    """What a build has kept of its own validation is not told where a later one was recorded."""
    first = timed_elsewhere()
    record_evidence(open_bundle(linear), first)
    output = tmp_path / "o"
    write_proved(open_bundle(linear), replace(first, notes=("whole",)), output, force=False)
    assert load_result(output)["notes"] == ["whole"]
    record_evidence(open_bundle(output), replace(first, device={"cpu": "workstation"}))
    assert load_result(output)["device"] == {"cpu": "workstation"}


def test_a_record_tells_what_it_rests_on(linear: Path, data: str) -> None:
    """The data by its name and content, the budget, the day, and what was timed."""
    record_evidence(open_bundle(linear), timed_elsewhere(), data=data)
    recorded = evidence(linear)
    assert recorded["basis"]["data"] == "movies.csv"  # type: ignore[index]
    assert recorded["basis"]["sha256"] == data_hash(data)  # type: ignore[index]
    assert recorded["basis"]["budget"] == {"limit": 0.05, "unit": "relative"}  # type: ignore[index]
    assert len(recorded["basis"]["date"]) == 10  # type: ignore[index]
    assert recorded["workload"] == {"batch": 1, "length": 16}


def test_a_record_tells_what_the_verdict_was_judged_by(linear: Path) -> None:
    """Gates with their limits, and how far the outputs lie apart, come back as they were."""
    result = timed_elsewhere()
    record_evidence(open_bundle(linear), result)
    read = evidence_result(open_bundle(linear))
    assert read.gates == result.gates
    assert read.numerics == result.numerics
    assert (read.verdict, read.accuracy) == (result.verdict, result.accuracy)
