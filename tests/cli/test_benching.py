"""``edgekit bench``: options, tables that fit a terminal, results that fit the schema."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from edgekit.cli.commands._bench_tables import describe
from edgekit.cli.console import Console
from edgekit.cli.main import cli
from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError, EdgekitError, MeasurementError, StepError
from edgekit.core.measurements import (
    Attached,
    BenchResult,
    Contender,
    Interval,
    Noise,
    Probe,
    Ratio,
    Stages,
)
from edgekit.core.results import to_json
from tests.runtime.conftest import linear_graph, write_bundle

SCHEMA = json.loads((files("edgekit.core") / "bench.schema.json").read_text(encoding="utf-8"))
SHORT = ["--budget", "0.4", "--processes", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """``-v`` and ``-q`` set the level of the whole process."""
    level = logging.getLogger("edgekit").level
    yield
    logging.getLogger("edgekit").setLevel(level)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle that computes 2a + b."""
    return write_bundle(tmp_path / "linear", linear_graph(), task="custom")


def run(*words: object) -> Result:
    """The command in this process; what it raises is in ``exception``."""
    return CliRunner().invoke(cli, ["bench", *map(str, words)], obj=Console(json_output=False))


def test_the_command_is_kept_as_it_was_typed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quoted for a shell, so that it makes the result again."""
    kept: list[object] = []
    monkeypatch.setattr(Console, "result", lambda self, value, text: kept.append(value))
    done = run(bundle.path, *SHORT, "--columns", "text=a b", "--data", "x.csv", "--length", "16")
    assert isinstance(done.exception, ConfigError)
    assert run(bundle.path, *SHORT).exit_code == 0
    (result,) = kept
    assert isinstance(result, BenchResult)
    assert shlex.split(str(result.command)) == ["edgekit", "bench", str(bundle.path), *SHORT]
    Draft202012Validator(SCHEMA).validate(to_json(result))


def test_wrong_answers_are_told_with_the_figures_of_the_others(
    bundle: Bundle, tmp_path: Path
) -> None:
    """The tables, then the failure with exit code 4; the reports are written all the same."""
    graph = linear_graph()
    graph.weights.clear()
    graph.weight("two", np.array(2.5, dtype=np.float32))
    wrong = write_bundle(tmp_path / "wrong", graph, task="custom")
    page = tmp_path / "bench.md"
    done = run(bundle.path, wrong.path, *SHORT, "--markdown", page)
    error = done.exception
    assert isinstance(error, MeasurementError)
    assert error.exit_code == 4
    assert "wrong: disqualified" in error.message
    assert isinstance(error.result, BenchResult)
    assert error.result.command is not None
    plain = to_json(error.result)
    assert isinstance(plain, dict)
    told = {"kind": error.kind, "message": "", "hint": None, "exit_code": 4}
    Draft202012Validator(SCHEMA).validate({**plain, "error": told})
    assert "linear" in done.output
    assert page.exists()


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["--length", "long"], "neither a number of tokens"),
        (["--length", "0"], "neither a number of tokens"),
        (["--length", "data"], "needs texts"),
        (["--qps", "5"], "belongs to the scenario server"),
        (["--scenario", "server"], "--qps"),
        (["--scenario", "server", "--qps", "0"], "--qps"),
        (["--interval", "1"], "belongs to the scenario sparse"),
        (["--streams", "2"], "belongs to the scenario offline"),
        (["--scenario", "offline", "--streams", "0"], "--streams"),
        (["--budget", "inf"], "--budget"),
        (["--scenario", "seldom"], "sparse"),
        (["--also", "compile"], "--reference"),
        (["--also", "int8"], "bfloat16"),
        (["--attach", "nothing.json"], "cannot be read"),
        (["--precision", "-1"], "--precision"),
        (["--columns", "a=b"], "--data"),
        (["--max-new-tokens", "3"], "generates nothing"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
    ],
)
def test_options_that_mean_nothing_are_refused(bundle: Bundle, words: list[str], fact: str) -> None:
    """Before anything is measured, with what would be right."""
    done = run(bundle.path, *SHORT, *words)
    said = str(done.exception) if isinstance(done.exception, EdgekitError) else done.output
    assert fact in said
    assert isinstance(done.exception, ConfigError) or done.exit_code == 2


def test_callers_at_a_time_are_those_that_were_asked_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol and the row tell them."""
    kept: list[object] = []
    monkeypatch.setattr(Console, "result", lambda self, value, text: kept.append(value))
    done = run(bundle.path, *SHORT, "--scenario", "offline", "--streams", "3")
    assert done.exit_code == 0
    (result,) = kept
    assert isinstance(result, BenchResult)
    assert result.protocol["streams"] == 3
    assert result.contenders[0].settings == "3 streams"


def test_a_report_that_exists_is_refused_before_anything_is_measured(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And replaced with --force."""
    page = tmp_path / "bench.md"
    page.write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr("edgekit.pipeline.benching.bench", lambda *_, **__: pytest.fail("ran"))
        error = run(bundle.path, *SHORT, "--markdown", page).exception
    assert isinstance(error, ConfigError)
    assert "--force" in str(error)
    assert page.read_text() == "old"
    assert run(bundle.path, *SHORT, "--markdown", page, "--force").exit_code == 0
    assert page.read_text() != "old"


@pytest.mark.parametrize("failed", [False, True])
def test_what_was_measured_outlives_its_report(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: bool
) -> None:
    """The tables are printed first, and the error that ends the command holds the result."""

    def full(*_: object, **__: object) -> None:
        raise StepError("The disk is full.")

    def measure(*_: object, **__: object) -> BenchResult:
        if failed:
            raise MeasurementError("It hung.", hint="Look.", result=example())
        return example()

    monkeypatch.setattr("edgekit.reporting.write_reports", full)
    monkeypatch.setattr("edgekit.pipeline.benching.bench", measure)
    done = run(bundle.path, *SHORT, "--markdown", tmp_path / "bench.md")
    error = done.exception
    assert isinstance(error, MeasurementError if failed else StepError)
    assert isinstance(error.result, BenchResult)
    assert "The disk is full." in str(error)
    assert "Batch 8, 128 tokens" in done.output


def row(name: str, batch: int, length: int, **changes: object) -> Contender:
    """A contender with long names and large figures."""
    fields: dict[str, object] = {
        "name": name, "engine": "onnxruntime", "batch": batch, "length": length,
        "p50_ms": 262.13, "p90_ms": 280.5, "p95_ms": 290.1, "p99_ms": None, "throughput": 30.51,
        "import_ms": 1234.5, "load_ms": 5678.9, "first_ms": 28742.05, "peak_rss_bytes": 148_400_000,
        "artifact_bytes": 90_900_000, "samples": 12_345, "processes": 40, "p50_low_ms": 255.33,
        "p50_high_ms": 271.44, "cpu_ms": 523.11, "stages": Stages(0.12, 262.0, 0.08),
        "settings": "torch.compile, 1 or 2 threads",
    }  # fmt: skip
    return Contender(**{**fields, **changes})  # type: ignore[arg-type]


def example() -> BenchResult:
    """A sweep with everything in it."""
    names = ("pytorch bfloat16", "a-bundle-with-quite-a-long-name-of-its-own", "openvino")
    rows = tuple(
        row(name, batch, length) for batch in (1, 8) for length in (16, 128) for name in names
    )
    noise = Noise(1.01, 0.98, 1.04, "noisy", ("other programs used 50% of the CPUs",))
    ratio = Ratio(names[0], names[1], 8, 128, 1.234, 1.1, 1.4, 1.13, "not resolved")
    probe = Probe(
        names[1], "session.set_denormal_as_zero=0", 8, 128, Interval(1.2, 1.1, 1.3), "faster"
    )
    attached = Attached("pi.json", {"cpu": "Cortex-A76"}, {}, (row("pi", 1, 16),), noise)
    return BenchResult(
        {"stopped": "precision", "rounds": 7, "processes": 40, "precision": 0.02}, {}, {}, rows,
        (ratio,), noise, ("short",), (probe,), (attached,),
    )  # fmt: skip


@pytest.mark.parametrize("verbose", [False, True])
def test_tables_fit_a_terminal(verbose: bool) -> None:
    """Of 100 columns, whatever is in them."""
    found = example()
    wide = replace(found.contenders[0], p50_high_ms=900.0)
    found = replace(
        found,
        contenders=(wide, *found.contenders[1:]),
        notes=(*found.notes, "what a person should know " * 9),
    )
    text = describe(found, verbose=verbose)
    assert "More --processes narrow it" in text.replace("\n", " ")
    assert max(map(len, text.splitlines())) <= 100
    assert ("engine ms" in text) == verbose


def test_what_the_tables_say() -> None:
    """Each workload by itself, the samples beside the percentiles, what other devices gave."""
    text = describe(example())
    for title in ("Batch 1, 16 tokens", "Batch 8, 128 tokens"):
        assert title in text
    assert "12,345" in text
    assert "Stopped after 7 of 40 rounds: every ratio is known to ±2.0%" in text
    assert "pi.json, measured on Cortex-A76 (noisy):" in text
    assert "session.set_denormal_as_zero=0" in text
    assert "A/A: 1.010 (0.980–1.040)" in text
    assert "need not be the quotient of the two medians" in text
    lines = [line for line in text.splitlines() if line.startswith("openvino")]
    assert all("–" in line for line in lines[:4])


def test_a_noisy_run_decides_no_speed() -> None:
    """Neither of a contender nor of an option, whatever its interval; what helps is said."""
    found = example()
    sure = replace(found.ratios[0], value=1.3, low=1.2, verdict="faster")
    text = describe(replace(found, ratios=(sure,)))
    assert "1.30×" in text
    assert text.count("  undecided\n") == 2
    assert "faster" not in text
    assert "No speed is decided: quiet the machine" in text
    quiet = describe(replace(found, ratios=(sure,), noise=replace(found.noise, verdict="quiet")))
    assert "  faster\n" in quiet
    assert "undecided" not in quiet


def test_what_a_dash_means_is_said() -> None:
    """Where samples are what it lacks."""
    quiet = Noise(None, None, None, "quiet", ())
    few = row("m", 1, 16, samples=40, p90_ms=None)
    assert "p90 takes 64" in describe(BenchResult({}, {}, {}, (few,), (), quiet))
    many = row("m", 1, 16, samples=40, p90_ms=None, p50_ms=None, error="it hung")
    assert "p90 takes 64" not in describe(BenchResult({}, {}, {}, (many,), (), quiet))


def test_the_budgets_rest_is_told() -> None:
    """And nothing where a run knew enough before."""
    spent = {"stopped": "budget", "budget_seconds": 20.0, "measured_seconds": 19.9, "rounds": 5}
    quiet = Noise(None, None, None, "quiet", ())
    text = describe(BenchResult(spent, {}, {}, (row("m", 1, 16),), (), quiet))
    assert "Timed 19.9 of 20 s in 5 rounds; start-up comes on top." in text


def test_a_server_says_what_it_reached() -> None:
    """Of what was offered; a percentile without its samples is a dash."""
    slow = row("slow", 1, 16, offered_qps=50.0, reached_qps=42.4, throughput=None)
    quiet = Noise(None, None, None, "quiet", ())
    asked = {"scenario": "server", "qps": 50.0}
    text = describe(BenchResult(asked, {}, {}, (slow,), (), quiet))
    assert text.startswith("Scenario server, 50 requests/s: latency is waiting + prediction")
    assert "42.4 of 50" in text
    assert "The machine was quiet." in text


@pytest.mark.parametrize(
    ("value", "shown"), [(28742.05, "28742"), (5.128, "5.13"), (0.01726, "0.017"), (None, "–")]
)
def test_times_keep_what_can_be_read(value: float | None, shown: str) -> None:
    """Of a model of microseconds as of one of minutes."""
    quiet = Noise(None, None, None, "quiet", ())
    made = row("m", 1, 16, first_ms=value)
    text = describe(BenchResult({}, {}, {}, (made,), (), quiet))
    assert f" {shown} " in text
