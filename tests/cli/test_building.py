"""``edgekit build`` as a command: its exit codes, its JSON, what it leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.cli.commands.building import describe
from edgekit.core.built import BuildCandidate, BuildResult, BuildStep
from edgekit.core.cachefolder import VARIABLE
from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Contender,
    Interval,
    Latency,
    Noise,
    Size,
    ValidateResult,
)
from tests.cli.test_main import edgekit
from tests.pipeline.quantizable import Small, make_small

# No timing: the target is another machine, and its speed is not measured here.
ELSEWHERE = ("--target", "cpu-arm64", "--engine", "onnxruntime")
SOURCE = ("module.py:make", "--input", "x=float32:batch,16", "-o", "q")
JUDGED = ("--data", "d.npz", "--max-drop", "5%")

KEYS = {"output", "bundle_id", "steps", "candidates", "chosen", "verdict"}
CANDIDATE_KEYS = {"name", "verdict", "accuracy", "latency", "bytes", "chosen", "reason"}

RESULT = BuildResult(
    output=Path("q"),
    bundle_id="ab" * 32,
    steps=(
        BuildStep("export", "export", 12.34, False, "aa"),
        BuildStep("compile", "onnxruntime fp32", 0.01, True, "bb"),
    ),
    candidates=(
        BuildCandidate("onnxruntime fp32", "inconclusive", None, None, 90_900_000, False, "slow"),
        BuildCandidate(
            "onnxruntime int8", "pass",
            Accuracy("accuracy", 0.9, 0.898, 0.0022, -0.001, 0.005, 4000, None, "relative"),
            Latency(20.0, 10.0, Interval(2.0, 1.9, 2.1)), 23_000_000, True, "quick",
        ),
        BuildCandidate("openvino int8", "fail", None, None, None, False, "NNCF crashed"),
    ),
    chosen="onnxruntime int8",
    verdict="pass",
    validation=None,
    seconds=13.0,
)  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """The small classifier, and a cache of its own."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return make_small(tmp_path)


def test_a_pass_is_one_json_object(small: Small) -> None:
    """With the keys of the contract; the bundle is there, verifies and keeps its report."""
    done = edgekit("build", *SOURCE, *ELSEWHERE, *JUDGED, "--json", cwd=small.folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) >= KEYS
    assert (result["verdict"], result["output"], result["chosen"]) == (
        "pass", "q", "onnxruntime int8",
    )  # fmt: skip
    assert [set(one) for one in result["candidates"]] == [CANDIDATE_KEYS] * 2
    assert [one["chosen"] for one in result["candidates"]] == [False, True]
    assert result["candidates"][1]["accuracy"]["samples"] > 600
    assert [one["step"] for one in result["steps"]] == [
        "export", "compile", "quantize", "compile", "validate",
    ]  # fmt: skip
    assert edgekit("verify", "q", cwd=small.folder).returncode == 0
    shown = edgekit("report", "q", "-o", "r.html", cwd=small.folder)
    assert shown.returncode == 0, shown.stderr
    assert "onnxruntime fp32" in (small.folder / "r.html").read_text(encoding="utf-8")


def test_a_missed_budget_is_one_json_object_too(small: Small) -> None:
    """Exit 5: the whole result with the error beside it, and no bundle."""
    done = edgekit(
        "build", *SOURCE, *ELSEWHERE, *JUDGED[:-1], "0.0001%", "--json", cwd=small.folder
    )
    assert done.returncode == 5, done.stderr
    result = json.loads(done.stdout)
    assert set(result) >= KEYS
    assert (result["verdict"], result["output"], result["chosen"]) == ("inconclusive", None, None)
    assert result["error"]["kind"] == "BudgetNotMet"
    assert result["samples_needed"] > 1_000_000
    assert result["candidates"] == []
    assert small.nothing_left()
    assert "cannot be proved" in done.stderr
    assert "--max-drop" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--max-drop", "1%"), 2, "--data"),
        (("--optimize-for", "beauty"), 2, "latency"),
        (("--target", "cpu-x68"), 2, "cpu-x68"),
        (("--batch", "0"), 2, "--batch"),
        (("-o", "b"), 2, "exists"),
        (("--data", "none.npz"), 2, "none.npz"),
        (("--input", "y=float32:batch,16"), 2, "y"),
    ],
)
def test_wrong_usage(small: Small, words: tuple[str, ...], code: int, told: str) -> None:
    """Every kind has its exit code and names what is wrong."""
    done = edgekit("build", *SOURCE, *ELSEWHERE, *words, "--json", cwd=small.folder)
    assert "Traceback" not in done.stderr, done.stderr
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit_code"]) == (code, code)
    assert told in error["message"]
    assert small.nothing_left()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped(small: Small, stop: signal.Signals) -> None:
    """Ctrl-C while a candidate is made leaves nothing of the build, and no part of an entry."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "build", *SOURCE, *ELSEWHERE, *JUDGED, "--json"],
        cwd=small.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Preparing the graph"):
            break
    process.send_signal(stop)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + stop
    assert json.loads(out)["error"]["exit_code"] == 128 + stop
    assert small.nothing_left()
    kept = [path.name for path in (small.folder / "cache" / "build").iterdir()]
    assert not any(name.startswith(".") for name in kept)


def test_result_for_a_person() -> None:
    """The verdict, every candidate with its reason, every step with its time."""
    judged = ValidateResult("pass", None, {}, None, Size(2, 1, 0.5), (), {}, {})
    lines = describe(replace(RESULT, validation=judged)).splitlines()
    assert lines[0] == "verdict: pass"
    assert lines[-1] == "q: onnxruntime int8, q/report.html"
    text = "\n".join(" ".join(line.split()) for line in lines)
    for part in (
        "onnxruntime fp32 not judged 90.9 MB slow",
        "onnxruntime int8 chosen 23.0 MB quick",
        "NNCF crashed",
        "export export 12.3 s",
        "compile onnxruntime fp32 cached",
    ):
        assert part in text, part


def test_noise_of_a_build_is_told() -> None:
    """As bench and validate tell it, with the workload that was timed."""
    row = Contender(
        "q", "onnxruntime", 1, 16, 10.0, None, None, None, 100.0, 1.0, 1.0, 1.0, 5, 5, 9, 5
    )
    noise = Noise(1.01, 0.98, 1.04, "noisy", ("others used 20 %",))
    validation = ValidateResult(
        "pass", None, {}, Latency(20.0, 10.0, Interval(2.0, 1.9, 2.1)), Size(2, 1, 0.5), (), {},
        {}, timing=BenchResult({"threads": 2}, {}, {}, (row,), (), noise),
        notes=("The run was noisy: something.", "onnxruntime int8: chosen, quick."),
    )  # fmt: skip
    text = describe(replace(RESULT, validation=validation)).replace("\N{NO-BREAK SPACE}", " ")
    assert "A/A: 1.010 (0.980–1.040); the machine was noisy.\n  others used 20 %" in text
    assert "latency at 1 × 16, 2 threads: 20.0 ms in PyTorch, 10.0 ms in the bundle" in text
    assert "note: The run was noisy: something." in text
    assert "note: onnxruntime int8" not in text


def test_a_build_that_nothing_here_can_judge() -> None:
    """It is called built, and neither passed nor inconclusive; there is no page of it."""
    text = describe(replace(RESULT, target="npu", not_run="no NPU", verdict="inconclusive"))
    assert text.startswith("verdict: none; built, not run on npu, and nothing here can judge it")
    assert text.endswith("q: onnxruntime int8")


def test_a_build_that_was_not_run() -> None:
    """It passes for what it answers; its notes say why it was not run."""
    judged = ValidateResult("pass", None, {}, None, Size(2, 1, 0.5), (), {}, {})
    found = replace(RESULT, target="cuda", not_run="no CUDA here", validation=judged)
    text = describe(found)
    assert text.startswith("verdict: pass for its golden answers, on this machine; built, not run")
