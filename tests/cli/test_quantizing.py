"""``edgekit quantize`` as a command: its exit codes, its JSON, what it leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.commands.quantizing import describe
from edgekit.core.measurements import (
    Accuracy,
    Interval,
    KeptFloat,
    Latency,
    Noise,
    QuantizeResult,
    Tried,
)
from tests.cli.test_main import edgekit
from tests.pipeline.quantizable import Small, check_schema, make_small, rows

# No timing: the target is another machine, and its speed is not measured here.
ELSEWHERE = ("--target", "cpu-arm64")
JUDGED = ("--data", "d.npz", "--reference", "module.py:make", "--max-drop", "5%")

RESULT = QuantizeResult(
    output=Path("q"),
    bundle_id="ab" * 32,
    method="int8-dynamic",
    bits=8,
    target="host",
    engine="onnxruntime",
    quantized_ops={"MatMul": 36, "Gather": 1},
    kept_float=(KeptFloat("/head/MatMul", "raised to float32"),),
    bytes=23_000_000,
    ratio_to_input=0.25,
    latency=Latency(20.0, 10.0, Interval(2.0, 1.9, 2.1)),
    accuracy=Accuracy("accuracy", 0.9, 0.898, 0.0022, -0.001, 0.005, 4000, None, "relative"),
    verdict="pass",
    recipe={"scheme": "int8-dynamic"},
    cpu_features=("avx512_vnni",),
    run_on={"cpu": "Xeon"},
    workload={"batch": 1, "length": 128, "threads": 2},
    noise=Noise(1.01, 0.98, 1.04, "noisy", ("others used 20 %",)),
    tried=(
        Tried("int8-dynamic", 0.02, 22_000_000, False, "a drop of 2.00 %"),
        Tried("int8-dynamic, head at float32", 0.001, 23_000_000, True, "the cheapest"),
    ),
    evaluations=2,
    notes=("Something to know.",),
)


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """The small classifier and its rows."""
    return make_small(tmp_path)


def failed(small: Small, *words: object, bundle: str = "b") -> dict[str, object]:
    """The error of a command that must leave nothing behind."""
    done = edgekit("quantize", bundle, "-o", "q", *words, "--json", cwd=small.folder)
    assert "Traceback" not in done.stderr, done.stderr
    error = json.loads(done.stdout)["error"]
    assert done.returncode == error["exit_code"]
    assert small.nothing_left()
    assert isinstance(error, dict)
    return error


def test_a_pass_is_one_json_object(small: Small) -> None:
    """That fits the published schema; the bundle is there, verifies and is inspected."""
    done = edgekit("quantize", "b", "-o", "q", *ELSEWHERE, *JUDGED, "--json", cwd=small.folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    check_schema(result)
    assert (result["verdict"], result["output"], result["run_on"]) == ("pass", "q", None)
    assert result["accuracy"]["samples"] > 600
    assert edgekit("verify", "q", cwd=small.folder).returncode == 0
    shown = edgekit("inspect", "q", cwd=small.folder)
    assert "int8-" in shown.stdout
    assert f"{result['accuracy']['samples']} samples" in shown.stdout


def test_a_missed_budget_is_one_json_object_too(small: Small) -> None:
    """Exit 5: the whole result with the error beside it, and no bundle."""
    done = edgekit(
        "quantize", "b", "-o", "q", *ELSEWHERE, *JUDGED[:-1], "0.0001%", "--json", cwd=small.folder
    )
    assert done.returncode == 5
    result = json.loads(done.stdout)
    check_schema(result)
    assert (result["verdict"], result["output"]) == ("inconclusive", None)
    assert (result["method"], result["bits"], result["bytes"]) == (None, None, None)
    assert result["samples_needed"] > 1_000_000
    assert result["error"]["kind"] == "BudgetNotMet"
    assert small.nothing_left()


def test_a_missed_budget_for_a_person(small: Small) -> None:
    """The result on standard output, the error and its remedy on the other."""
    done = edgekit(
        "quantize", "b", "-o", "q", *ELSEWHERE, *JUDGED[:-1], "0.0001%", cwd=small.folder
    )
    assert done.returncode == 5
    assert done.stdout == "verdict: inconclusive\n"
    assert "Error: The budget of 0.0001% cannot be proved on" in done.stderr
    assert "--max-drop" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--max-drop", "1%"), 2, "--data"),
        (("--data", "d.npz"), 2, "--reference"),
        (("--method", "static", "--target", "cuda"), 2, "cuda"),
        (("--calibration", "empty.npz"), 2, "empty.npz"),
        (("--calibration", "other.npz"), 2, "x"),
        (("--calibration", "nan.npz"), 2, "NaN"),
        (("--exclude", "/third/*"), 2, "/third/*"),
        (("--bits", "5"), 2, "5"),
        (("-o", "b"), 2, "the input"),
    ],
)
def test_wrong_usage(small: Small, words: tuple[str, ...], code: int, told: str) -> None:
    """Every kind has its exit code and names what is wrong."""
    x, label = rows(20)
    np.savez(small.folder / "empty.npz", x=x[:0], label=label[:0])
    np.savez(small.folder / "other.npz", y=x)
    x[3] = np.nan
    np.savez(small.folder / "nan.npz", x=x, label=label)
    error = failed(small, *words)
    assert error["exit_code"] == code
    assert told in str(error["message"])


def test_quantized_twice(small: Small) -> None:
    """A quantized bundle is a step that fails, and names where to start."""
    done = edgekit("quantize", "b", "-o", "first", *ELSEWHERE, cwd=small.folder)
    assert done.returncode == 0, done.stderr
    error = failed(small, bundle="first")
    assert (error["kind"], error["exit_code"]) == ("QuantizeError", 4)
    assert "exported" in str(error["hint"])


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped(small: Small, stop: signal.Signals) -> None:
    """Ctrl-C while candidates are tried leaves nothing of them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "quantize", "b", "-o", "q", *JUDGED, "--json"],
        cwd=small.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Measuring its speed against the bundle it is made of"):
            break
    time.sleep(0.3)
    process.send_signal(stop)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + stop
    assert json.loads(out)["error"]["exit_code"] == 128 + stop
    assert small.nothing_left()


def test_result_for_a_person() -> None:
    """The verdict, what it rests on with its intervals, what stayed float, what was tried."""
    text = describe(RESULT)
    for line in (
        "verdict: pass",
        "method: int8-dynamic, head at float32, 8 bits, for onnxruntime on host",
        "size: 23.0 MB, 4.00 times smaller than the input",
        "drop: 0.22 % of the original's, 95 % interval −0.10 % to 0.50 %",
        "quantized: 36 MatMul, 1 Gather",
        "needs: avx512_vnni",
        "note: Something to know.",
        "A/A: 1.010 (0.980–1.040); the machine was noisy.",
        "q: bundle abababababab",
        "next: edgekit compile q -o q-fast",
    ):
        assert line in text.splitlines(), line
    assert "2.00× (1.90× to 2.10×, not decided: noisy machine)" in text
    assert "latency at 1\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}128, 2 threads: " in text
    assert "raised to float32" in text
    assert "a drop of 2.00 %" in text


def test_result_without_a_candidate() -> None:
    """Where nothing could be made there is no size to tell, and no bundle."""
    none = replace(
        RESULT, output=None, bundle_id=None, method=None, bits=None, bytes=None,
        ratio_to_input=None, quantized_ops={}, kept_float=(), latency=None, accuracy=None,
        verdict="fail", tried=(),
    )  # fmt: skip
    lines = describe(none).splitlines()
    assert lines[0] == "verdict: fail"
    assert not any(line.startswith(("method", "size", "quantized")) for line in lines)


def test_built_not_run() -> None:
    """A pass for a device that is not here says for what it is one."""
    first = describe(replace(RESULT, run_on=None, target="raspberry-pi-5")).splitlines()[0]
    assert first == (
        "verdict: pass for its accuracy, on this machine; built, not run on raspberry-pi-5, speed"
        " not measured"
    )
    assert describe(replace(RESULT, run_on=None, verdict="fail")).startswith("verdict: fail\n")
