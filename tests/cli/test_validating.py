"""``edgekit validate`` as a command: its exit codes, its JSON, and the files beside."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from edgekit.cli.commands.validating import describe
from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Contender,
    Gate,
    Interval,
    Latency,
    LayerError,
    Noise,
    Numerics,
    Size,
    ValidateResult,
    WorstSample,
)
from tests.cli.test_main import edgekit
from tests.pipeline.test_validating import LINEAR, check_schema
from tests.runtime.conftest import linear_graph, write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle, its module and labelled arrays, without a path in their names."""
    write_bundle(tmp_path / "b", linear_graph(), task="custom")
    (tmp_path / "linear.py").write_text(LINEAR + "def broken(p, l):\n    raise OSError('no')\n")
    a, b = np.random.default_rng(0).random((2, 500, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", a=a, b=b, label=(2 * a + b).argmax(axis=1))
    return tmp_path


COMMAND = (
    "validate", "b", "--reference", "linear.py:make", "--data", "d.npz", "--no-latency",
    "--max-drop", "5%",
)  # fmt: skip


def test_a_pass_is_one_json_object(folder: Path) -> None:
    """That fits the published schema and holds the command that makes it again."""
    done = edgekit(*COMMAND, "--json", "--markdown", "r.md", cwd=folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    check_schema(result)
    assert result["verdict"] == "pass"
    assert result["command"].startswith("edgekit validate b --reference linear.py:make")
    assert "Pass: b" in (folder / "r.md").read_text()


def test_a_failure_leaves_its_report_too(folder: Path) -> None:
    """Exit 5 with the gate named; the JSON has all of the result beside the error."""
    done = edgekit(
        *COMMAND, "--max-size-mb", "0.000001", "--json", "--markdown", "r.md", cwd=folder
    )
    assert done.returncode == 5
    result = json.loads(done.stdout)
    check_schema(result)
    assert result["error"]["exit_code"] == 5
    assert "max_size_mb" in result["error"]["message"]
    assert result["command"]
    assert "Fail: b" in (folder / "r.md").read_text()


def _with_failing_reports(
    folder: Path, error: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """The command where no report can be drawn."""
    code = (
        "import sys\n"
        "import edgekit.reporting as reporting\n"
        "from edgekit.core.errors import ConfigError\n"
        "def never(*_, **__):\n"
        f"    raise {error}\n"
        "reporting.write_reports = never\n"
        "from edgekit.cli.main import main\n"
        f"sys.argv = ['edgekit', *{[*COMMAND, *options, '--markdown', 'r.md']!r}]\n"
        "main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )


@pytest.mark.parametrize(
    ("error", "code"), [("ConfigError('no room')", 2), ("ValueError('limits are NaN')", 1)]
)
def test_a_report_that_fails_leaves_the_verdict(folder: Path, error: str, code: int) -> None:
    """As text and as one JSON object; a gate that was missed keeps its exit code."""
    done = _with_failing_reports(folder, error)
    assert done.returncode == code
    assert done.stdout.startswith("verdict: pass")
    done = _with_failing_reports(folder, error, "--json")
    assert done.returncode == code
    result = json.loads(done.stdout)
    assert result["verdict"] == "pass"
    done = _with_failing_reports(folder, error, "--json", "--max-size-mb", "0.000001")
    assert done.returncode == 5
    result = json.loads(done.stdout)
    assert result["verdict"] == "fail"
    assert "max_size_mb" in result["error"]["message"]
    assert "the reports could not be written" in result["error"]["hint"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--metric", "linear.py:broken"), "linear.py:broken failed: OSError: no"),
        (("--metric", "spearman"), "does not fit"),
        (("--layers", "nowhere"), "nowhere"),
        (("--length", "many", "--no-latency"), "neither a number of tokens nor 'data'"),
        (("--worst", "no/such/w.jsonl"), "no such folder"),
        (("--reference", "org/model"), "names a checkpoint"),
    ],
)
def test_wrong_options_are_told(folder: Path, options: tuple[str, ...], told: str) -> None:
    """Exit 2, by name, and no file is left."""
    done = edgekit(*COMMAND, *options, "--markdown", "r.md", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "r.md").exists()


def test_a_report_that_exists_is_refused_before_anything_is_read(folder: Path) -> None:
    """Exit 2; with --force it is replaced."""
    page = folder / "r.md"
    page.write_text("old")
    done = edgekit(*COMMAND, "--reference", "nowhere.py:make", "--markdown", "r.md", cwd=folder)
    assert done.returncode == 2
    assert "r.md exists" in done.stderr
    assert "--force" in done.stderr
    assert page.read_text() == "old"
    done = edgekit(*COMMAND, "--markdown", "r.md", "--force", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Pass: b" in page.read_text()
    assert "Written: r.md" in done.stderr


def test_agreement_is_no_accuracy() -> None:
    """Where DATA had no labels the line below the metric says what it is worth."""
    lines = describe(replace(RESULT, accuracy=replace(ACCURACY, metric="agreement"))).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("agreement: "))
    assert lines[at + 1].startswith("no labels: ")
    assert not any(line.startswith("no labels: ") for line in describe(RESULT).splitlines())


def test_a_budget_of_the_drop_needs_data(folder: Path) -> None:
    """Exit 2; without it the tolerance decides and stands in the table."""
    bare = ("validate", "b", "--reference", "linear.py:make", "--no-latency",
            "--allow-other-reference")  # fmt: skip
    done = edgekit(*bare, "--max-drop", "1%", cwd=folder)
    assert done.returncode == 2
    assert "--max-drop needs --data" in done.stderr
    done = edgekit(*bare, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "\ntolerance " in done.stdout


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        (
            "relative",
            "drop: 11.00 % of the original's, 95 % interval 5.00 % to 20.00 %; budget 1.00 %",
        ),
        (
            "points",
            "drop: 11.00 points, 95 % interval 5.00 points to 20.00 points; budget 1.00 points",
        ),
    ],
)
def test_the_drop_has_its_unit(unit: Literal["relative", "points"], told: str) -> None:
    """Per cent of the metric are not points of it."""
    result = replace(RESULT, accuracy=replace(ACCURACY, drop_unit=unit))
    assert told in describe(result).splitlines()


def test_an_end_without_a_bound_is_said() -> None:
    """As in every report."""
    result = replace(RESULT, accuracy=replace(ACCURACY, drop_upper_95=math.inf))
    assert "drop: 11.00 % of the original's, 95 % interval 5.00 % to no bound; budget" in describe(
        result
    )


@pytest.mark.parametrize(
    ("low", "told"),
    [(0.95, ", not resolved)"), (1.05, "(1.05× to 1.20×, not decided: noisy machine)\n")],
)
def test_a_speed_that_may_be_none_is_not_resolved(low: float, told: str) -> None:
    """And the noise of the machine is told with it."""
    noise = Noise(1.01, 0.98, 1.04, "noisy", ("others used 20 %",))
    result = replace(
        RESULT,
        latency=Latency(11.0, 10.0, Interval(1.1, low, 1.2)),
        timing=BenchResult({"threads": 2}, {}, {}, (ROW,), (), noise),
    )
    text = describe(result)
    assert "latency at 1 × 16, 2 threads: 11.0 ms in PyTorch".replace(" ", "") in (
        text.replace("\N{NO-BREAK SPACE}", "").replace(" ", "")
    )
    assert told in text
    assert "need not be the quotient of the two medians" in text
    assert "A/A: 1.010 (0.980–1.040); the machine was noisy.\n  others used 20 %" in text


ROW = Contender("b", "onnxruntime", 1, 16, 10.0, None, None, None, 100.0, 1.0, 1.0, 1.0, 5, 5, 9, 5)
ACCURACY = Accuracy("accuracy", 0.9, 0.8, 0.11, 0.05, 0.2, 400, None, mcnemar_p=0.00123)
RESULT = ValidateResult(
    "fail", ACCURACY, {}, None, Size(100, 50, 0.5), (Gate("max_drop", 0.01, 0.11, False),), {}, {}
)


def test_a_person_reads_what_it_rests_on() -> None:
    """Everything that was found, in lines that a terminal can hold."""
    result = ValidateResult(
        verdict="fail",
        accuracy=ACCURACY,
        numerics={"logits": Numerics(0.5, 0.1, 0.99, 0.9, kl=0.025)},
        latency=None,
        size=Size(100, 50, 0.5),
        gates=(Gate("max_drop", 0.01, 0.11, False), Gate("max_rss_mb", 5.0, None, None)),
        device={},
        versions={},
        worst=(
            WorstSample(7, "bad\x1b[2J text " + "x" * 200, "yes", "yes 0.9", "no 0.6", 2.0, True),
            WorstSample(9, "the same decision", "yes", "yes 0.9", "yes 0.6", 1.0, False),
        ),
        layers=(LayerError("encoder." * 20 + "out", "MatMul", 3.25, 0.5),),
        notes=("One thing.",),
    )
    text = describe(result)
    assert text.startswith("verdict: fail\n")
    for part in ("p = 0.00123", "2.50e-02", "note: One thing.", "not decided", "3.2", "bad [2J"):
        assert part in text
    assert "the same decision" not in text
    assert "--worst" not in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 130


def test_the_data_and_its_samples_are_told() -> None:
    """Its name, how the gate was judged, and that no sample is decided otherwise."""
    data = {"name": "d.csv", "rows": 600, "for_verdicts": 400, "used_before": 0, "judged": 400}
    same = WorstSample(9, "x", "yes", "yes 0.9", "yes 0.6", 1e-6, False)
    result = replace(
        RESULT,
        data=data,
        worst=(same,),
        numerics={"logits": Numerics(1e-6, 1e-7, 1.0, 1.0)},
        gates=(Gate("max_drop", 0.01, 0.11, None),),
    )
    text = describe(result)
    assert "400 samples of d.csv" in text
    assert "11.00 %, at most 20.00 %  not decided" in text
    assert "No sample is decided otherwise: on the 400 samples the outputs differ by 1e-06" in text
    many = tuple(replace(same, changed=True, row=number) for number in range(1, 9))
    assert "… and more: --worst FILE.jsonl lists them." in describe(replace(result, worst=many))
