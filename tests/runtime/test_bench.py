"""``python -m edgekit.runtime.bench``: one bundle, on the device, in fresh processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import (
    ConfigError,
    EdgekitError,
    EngineUnavailable,
    MeasurementError,
    MissingDependency,
)
from edgekit.core.manifest import TensorSpec
from edgekit.core.results import BenchResult, Contender
from edgekit.runtime import bench
from edgekit.runtime.conversation import Child, ChildFailed, child_environment
from edgekit.runtime.records import Record, plan_turns
from edgekit.runtime.workloads import Workload, make_workloads, save_workloads
from tests.runtime.conftest import Graph, write_bundle

Make = Callable[..., Bundle]
SHORT = {"budget": 0.2, "processes": 2}


def test_a_bundle_is_measured_alone(text_bundle: Make) -> None:
    """Every workload has times of every process, and what was measured once per process."""
    bundle = text_bundle("classification")
    result = bench.measure_alone(bundle.path, lengths=[8, 16], threads=1, **SHORT)  # type: ignore[arg-type]
    assert [row.length for row in result.contenders] == [8, 16]
    for row in result.contenders:
        assert (row.name, row.engine, row.error) == ("bundle", "onnxruntime", None)
        assert row.processes == 2
        assert row.p50_ms is not None
        assert row.p50_ms > 0
        assert row.throughput is not None
        assert row.import_ms is not None
        assert row.load_ms is not None
        assert row.first_ms is not None
        assert row.first_ms > row.p50_ms
        assert row.artifact_bytes == bundle.bytes()
    assert result.ratios == ()
    assert result.noise.aa_ratio is None
    assert result.protocol["bundles"] == {"bundle": bundle.id}
    assert result.versions["onnxruntime"]


def test_the_program_prints_the_shape_of_a_bench(
    linear_bundle: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    """One JSON object on stdout, with the keys that `edgekit bench` has."""
    bundle = linear_bundle()
    assert bench.main([str(bundle.path), "--json", "--budget", "0.1", "--processes", "2"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert set(found) == {field.name for field in dataclasses.fields(BenchResult)}
    assert set(found["contenders"][0]) == {field.name for field in dataclasses.fields(Contender)}
    assert found["contenders"][0]["length"] is None


def test_the_program_prints_a_table(linear_bundle: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """For people: one line per workload, and how quiet the machine was."""
    bundle = linear_bundle()
    assert bench.main([str(bundle.path), "--budget", "0.02", "--processes", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].startswith("linear")
    assert lines[-1].startswith("The machine was")


def test_failures_have_their_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As everywhere in edgekit, also as JSON."""
    assert bench.main([str(tmp_path / "missing"), "--json"]) == 2
    told = json.loads(capfd.readouterr().out)["error"]
    assert (told["kind"], told["exit_code"]) == ("ConfigError", 2)


@pytest.mark.parametrize("options", [{"budget": 0.0}, {"budget": -1.0}, {"processes": 0}])
def test_a_plan_that_measures_nothing_is_refused(
    linear_bundle: Make, options: dict[str, float]
) -> None:
    """Seconds and processes are above 0."""
    with pytest.raises(ConfigError, match=r"--budget|--processes"):
        bench.measure_alone(linear_bundle().path, **{**SHORT, **options})  # type: ignore[arg-type]


def nan_graph() -> Graph:
    """y = log(-1), whatever x is."""
    graph = Graph(
        [TensorSpec("x", "float32", ("batch", 3))], [TensorSpec("y", "float32", ("batch", 3))]
    )
    graph.weight("minus", np.array(-1, dtype=np.float32))
    graph.op("Mul", "x", "x", to="square")
    graph.op("Sub", "minus", "square", to="below")
    graph.op("Log", "below", to="y")
    return graph


def test_nan_is_an_error_and_not_a_time(tmp_path: Path) -> None:
    """A model that answers NaN is not measured."""
    bundle = write_bundle(tmp_path / "nan", nan_graph(), task="custom")
    with pytest.raises(MeasurementError, match="output y holds NaN"):
        bench.measure_alone(bundle.path, **SHORT)  # type: ignore[arg-type]


def test_what_the_child_cannot_open_is_told(linear_bundle: Make, tmp_path: Path) -> None:
    """The engine's own error comes back with its name and its remedy."""
    bundle = linear_bundle()
    inputs = tmp_path / "w.safetensors"
    save_workloads(make_workloads(bundle), inputs)
    (bundle.path / "model.onnx").write_bytes(b"broken")
    command = bench.worker_command(bundle.path, inputs, 1)
    with (
        Child(command, stderr=tmp_path / "e", environment=child_environment()) as child,
        pytest.raises(ChildFailed, match="BundleCorrupt"),
    ):
        child.open(0, timeout=60)


def test_the_wrong_inputs_are_the_childs_error(linear_bundle: Make, tmp_path: Path) -> None:
    """Arrays of another model are refused by name."""
    inputs = tmp_path / "w.safetensors"
    save_workloads([Workload(1, None, {"z": np.zeros((1, 3), dtype=np.float32)})], inputs)
    command = bench.worker_command(linear_bundle().path, inputs, 1)
    with (
        Child(command, stderr=tmp_path / "e", environment=child_environment()) as child,
        pytest.raises(ChildFailed, match="InputMismatch"),
    ):
        child.open(0, timeout=60)


def test_nothing_is_left_behind(
    linear_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs and logs of the children live in a temporary folder that goes with them."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    bench.measure_alone(linear_bundle().path, **SHORT)  # type: ignore[arg-type]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "slowest_ms", "expected"),
    [(1.0, 1.0, (5, 0.2, 1)), (10.0, 1.0, (20, 0.5, 1)), (1.0, 100.0, (2, 0.5, 1)),
     (0.3, 500.0, (1, 0.3, 3))],
)  # fmt: skip
def test_turns_are_short_but_hold_five_inferences(
    seconds: float, slowest_ms: float, expected: tuple[int, float, int]
) -> None:
    """At most twenty; a single turn takes at least three samples."""
    assert plan_turns(seconds, slowest_ms) == pytest.approx(expected)


def record(error: str | None = None) -> Record:
    """Two processes at one workload: 100 times of 2 ms, 100 of 4 ms."""
    return Record(
        "a", error=error, facts={"engine": "busy"}, imports=[10.0, 30.0], loads=[5.0, 7.0],
        firsts={0: [9.0]}, peaks=[100, 300], times={0: {0: [2.0] * 100, 1: [4.0] * 100}},
    )  # fmt: skip


def test_a_row_sums_up_processes() -> None:
    """Quantiles over all, medians of what each process has once, the largest peak."""
    row = record().row(0, Workload(4, 16, {}), artifact_bytes=7)
    assert (row.p50_ms, row.p90_ms, row.p95_ms, row.p99_ms) == (2.0, 4.0, 4.0, None)
    assert row.throughput == pytest.approx(4 * 1000 / 3)
    assert (row.import_ms, row.load_ms, row.first_ms) == (20.0, 6.0, 9.0)
    assert (row.peak_rss_bytes, row.artifact_bytes) == (300, 7)
    assert (row.samples, row.processes) == (200, 2)


def test_a_failed_contender_has_no_numbers() -> None:
    """What it had measured before it failed is not shown as its result."""
    row = record("it ended").row(0, Workload(4, 16, {}), artifact_bytes=7)
    assert (row.p50_ms, row.load_ms, row.peak_rss_bytes, row.samples) == (None, None, None, 0)
    assert row.error == "it ended"


def test_a_peak_that_held_the_imports_is_said() -> None:
    """Where the system does not let it begin anew."""
    kept = record()
    assert kept.peak_note() is None
    kept.peak_reset = False
    assert "peak RSS" in str(kept.peak_note())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineUnavailable("No such device."), 7),
        (MissingDependency("The package onnxruntime is not installed."), 3),
        (MeasurementError("It hung."), 4),
        (None, 4),
    ],
)
def test_a_missing_engine_is_not_a_failed_measurement(
    linear_bundle: Make, monkeypatch: pytest.MonkeyPatch, error: EdgekitError | None, code: int
) -> None:
    """What the child lacks ends the program with its own exit code."""

    def fail(record: Record, child: Child, workload: int, *, timeout: float) -> None:
        raise ChildFailed("told", error=error)

    monkeypatch.setattr(Record, "open", fail)
    assert bench.main([str(linear_bundle().path), "--budget", "0.1", "--processes", "1"]) == code
