"""``python -m edgekit.runtime.bench``: one bundle, on the device, in fresh processes."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
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
from edgekit.core.measurements import BenchResult, Contender
from edgekit.core.tolerance import TOLERANCES, Tolerance
from edgekit.runtime import bench
from edgekit.runtime.contenders import worker_command
from edgekit.runtime.conversation import Child, ChildFailed, child_environment
from edgekit.runtime.records import Record
from edgekit.runtime.scenarios import make_scenario
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
        assert row.cpu_ms is not None
        assert row.cpu_ms > 0
        assert row.stages is not None
        assert row.stages.engine_ms > 0
        assert row.ecdf is not None
        assert row.ecdf.share[-1] == 1.0
    assert result.ratios == ()
    assert result.noise.aa_ratio is None
    assert result.protocol["bundles"] == {"bundle": bundle.id}
    assert result.versions["onnxruntime"]


def test_batches_and_lengths_are_crossed(text_bundle: Make) -> None:
    """One run measures them all."""
    result = bench.measure_alone(
        text_bundle("classification").path, batches=(1, 2), lengths=(8, 12), budget=0.1, processes=1
    )
    rows = [(row.batch, row.length) for row in result.contenders]
    assert rows == [(1, 8), (1, 12), (2, 8), (2, 12)]


@pytest.mark.parametrize(
    ("options", "throughput", "offered"),
    [
        (["--scenario", "server", "--qps", "300"], False, 300.0),
        (["--scenario", "sparse", "--interval", "0.01"], False, None),
        (["--scenario", "offline", "--streams", "2"], True, None),
        (["--scenario", "offline"], True, None),
    ],
)
def test_every_scenario_is_measured_on_the_device(
    linear_bundle: Make,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    throughput: bool,
    offered: float | None,
) -> None:
    """The same program, and what means nothing in a scenario is null."""
    bundle = linear_bundle()
    plan = ["--json", "--budget", "0.05", "--processes", "1"]
    assert bench.main([str(bundle.path), *plan, *options]) == 0
    found = json.loads(capfd.readouterr().out)
    (row,) = found["contenders"]
    assert found["protocol"]["scenario"] == options[1]
    assert row["p50_ms"] > 0
    assert (row["throughput"] is not None) is throughput
    assert row["offered_qps"] == row["reached_qps"] == offered


def test_a_rate_out_of_reach_is_said(linear_bundle: Make) -> None:
    """With the highest that was reached."""
    scenario = make_scenario("server", qps=1e7)
    result = bench.measure_alone(linear_bundle().path, budget=0.05, processes=1, scenario=scenario)
    assert "did not keep up with 1e+07 requests per second" in " ".join(result.notes)
    (row,) = result.contenders
    assert row.reached_qps is not None
    assert 0 < row.reached_qps < 1e6


@pytest.mark.parametrize(
    "options",
    [["--scenario", "server"], ["--qps", "5"], ["--scenario", "x"], ["--threads", "0"],
     ["--batch", "0"]],
)  # fmt: skip
def test_wrong_options_are_refused_before_anything_starts(
    linear_bundle: Make, capfd: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """Exit code 2."""
    assert bench.main([str(linear_bundle().path), *options]) == 2
    assert capfd.readouterr().err.startswith("error: ")


def random_graph() -> Graph:
    """y = x + a new random number in every call."""
    graph = Graph(
        [TensorSpec("x", "float32", ("batch", 3))], [TensorSpec("y", "float32", ("batch", 3))]
    )
    graph.op("RandomNormalLike", "x", to="noise")
    graph.op("Add", "x", "noise", to="y")
    return graph


def test_answers_that_change_are_no_measurement(tmp_path: Path) -> None:
    """A model that answers otherwise while it is timed is told by output and distance."""
    bundle = write_bundle(tmp_path / "dice", random_graph(), task="custom")
    with pytest.raises(MeasurementError, match=r"not answer 1 the same way .*output y: max"):
        bench.measure_alone(bundle.path, **SHORT)  # type: ignore[arg-type]


def test_the_tolerance_is_that_of_the_precision_in_use() -> None:
    """A bundle's own rule stands over it; an unknown precision is taken for exact."""
    quantized = Record("a", facts={"precision": "fp32", "effective_precision": "int8"})
    assert bench.answer_rule(quantized) == TOLERANCES["int8"]
    assert bench.answer_rule(Record("b", facts={"precision": "bf16"})) == TOLERANCES["bf16"]
    assert bench.answer_rule(Record("c", facts={"precision": "i4"})) == TOLERANCES["fp32"]
    own = Tolerance("cosine", minimum=0.5)
    assert bench.answer_rule(quantized, {"int8": own}) == own


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
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith("The machine was")


def test_failures_have_their_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As everywhere in edgekit, also as JSON."""
    assert bench.main([str(tmp_path / "missing"), "--json"]) == 2
    told = json.loads(capfd.readouterr().out)["error"]
    assert (told["kind"], told["exit_code"]) == ("ConfigError", 2)


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 0.0},
        {"budget": -1.0},
        {"budget": float("inf")},
        {"budget": float("nan")},
        {"processes": 0},
    ],
)
def test_a_plan_that_measures_nothing_is_refused(
    linear_bundle: Make, options: dict[str, float]
) -> None:
    """Seconds and processes are above 0, and finite."""
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
    command = worker_command(bundle.path, inputs, 1)
    with (
        Child(command, stderr=tmp_path / "e", environment=child_environment()) as child,
        pytest.raises(ChildFailed, match="BundleCorrupt"),
    ):
        child.open(0, timeout=60)


def test_the_wrong_inputs_are_the_childs_error(linear_bundle: Make, tmp_path: Path) -> None:
    """Arrays of another model are refused by name."""
    inputs = tmp_path / "w.safetensors"
    save_workloads([Workload(1, None, {"z": np.zeros((1, 3), dtype=np.float32)})], inputs)
    command = worker_command(linear_bundle().path, inputs, 1)
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
    ("number", "kind", "code"),
    [(signal.SIGTERM, "Terminated", 143), (signal.SIGINT, "Interrupted", 130)],
)
def test_a_signal_ends_it_cleanly(
    linear_bundle: Make, tmp_path: Path, number: signal.Signals, kind: str, code: int
) -> None:
    """With nothing in the temporary folder, no child, and an object for who reads JSON."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # A shell that starts a job in the background leaves Ctrl-C ignored in it.
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edgekit.runtime import bench\n"
        f"sys.exit(bench.main([{str(linear_bundle().path)!r}, '--json', '--budget', '600']))\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        env=child_environment(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(temporary.glob("*/0.stderr")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(number)
    out, told = running.communicate(timeout=60)
    assert running.returncode == code
    assert list(temporary.iterdir()) == []
    assert f"{kind}; nothing was left behind." in told
    error = json.loads(out)["error"]
    assert (error["kind"], error["exit_code"], error["hint"]) == (kind, code, None)


def test_the_handler_of_a_signal_is_given_back(tmp_path: Path) -> None:
    """Who calls the program as a function keeps its own."""
    before = signal.getsignal(signal.SIGTERM)
    bench.main([str(tmp_path / "missing")])
    assert signal.getsignal(signal.SIGTERM) is before


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
