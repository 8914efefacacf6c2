"""Reports as files, and the command that makes them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.console import Console
from edgekit.cli.main import cli
from edgekit.core.bundle import open_bundle, replace_evidence
from edgekit.core.errors import ConfigError, MissingDependency
from edgekit.core.manifest import Step
from edgekit.core.measurements import Accuracy, Interval, Latency, Noise, QuantizeResult
from edgekit.core.results import to_json
from edgekit.reporting import require_reporting, write_report, write_reports
from tests.reporting import results


@pytest.fixture
def result_file(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(to_json(results.validation())))
    return path


def test_both_files_are_written(tmp_path: Path) -> None:
    """The page and the Markdown of one result, and nothing beside them."""
    write_reports(results.comparison(), tmp_path / "a.html", tmp_path / "a.md")

    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "a.md").read_text().startswith("## ✅ Measured")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.md"]


def test_an_existing_file_stays_unless_forced(tmp_path: Path) -> None:
    """What exists is replaced with force only."""
    page = tmp_path / "a.html"
    page.write_text("mine")

    with pytest.raises(ConfigError, match="exists"):
        write_reports(results.comparison(), page, None)
    assert page.read_text() == "mine"
    write_reports(results.comparison(), page, None, force=True)
    assert page.read_text() != "mine"


@pytest.mark.parametrize("name", ["no/such/folder/a.html", "."])
def test_a_place_that_cannot_hold_it_is_refused_first(tmp_path: Path, name: str) -> None:
    """A missing folder or a folder in the file's place is told before any work."""
    with pytest.raises(ConfigError):
        require_reporting(tmp_path / name, None)


def test_a_report_never_lies_inside_a_bundle(classifier: Path) -> None:
    """A surplus file would make its bundle unreadable."""
    with pytest.raises(ConfigError, match="inside a bundle"):
        require_reporting(classifier / "report.html", None)


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib a page is refused with the pip line; Markdown needs no extra."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "matplotlib" else real(name, *rest),
    )

    with pytest.raises(MissingDependency) as caught:
        require_reporting(tmp_path / "a.html", None)
    assert "[report]" in (caught.value.hint or "")
    write_reports(results.comparison(), None, tmp_path / "a.md")


def test_the_command_renders_a_file(tmp_path: Path, result_file: Path) -> None:
    """`edgekit report results.json` writes what was asked for."""
    page, text = tmp_path / "r.html", tmp_path / "r.md"

    done = CliRunner().invoke(
        cli, ["report", str(result_file), "-o", str(page), "--markdown", str(text)],
        obj=Console(json_output=False), catch_exceptions=False,
    )  # fmt: skip

    assert done.exit_code == 0
    assert page.exists()
    assert text.exists()


def test_the_command_wants_an_output(result_file: Path) -> None:
    """Without a file to write there is nothing to do."""
    done = CliRunner().invoke(cli, ["report", str(result_file)], obj=Console(json_output=False))

    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize("text", ["", "not json", "[1]", "{}", "\x00\xff", "[" * 100_000])
def test_a_file_without_a_result_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever the file holds, the message is one sentence and the exit code 2."""
    path = tmp_path / "r.json"
    path.write_text(text)

    with pytest.raises(ConfigError):
        write_report(path, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_bundle_without_evidence_says_how_to_get_it(classifier: Path, tmp_path: Path) -> None:
    """The remedy is the command that records evidence."""
    with pytest.raises(ConfigError) as caught:
        write_report(classifier, tmp_path / "r.html")
    assert "--record" in (caught.value.hint or "")


NOISY = Noise(1.041, 1.012, 1.068, "noisy", ("other programs used 31% of the CPUs",))


def test_a_bundle_is_reported_from_its_evidence(classifier: Path, tmp_path: Path) -> None:
    """What `validate --record` wrote into the manifest is enough for a page."""
    bundle = open_bundle(shutil.copytree(classifier, tmp_path / "copy"))
    result = results.validation()
    evidence = {
        "accuracy": {"verdict": "pass", **dict(to_json(result.accuracy))},  # type: ignore[call-overload]
        "latency": to_json(result.latency),
        "memory": {"peak_rss_bytes": 123_000_000},
        "size": to_json(result.size),
        "device": result.device,
        "versions": result.versions,
        "noise": to_json(NOISY),
    }
    replace_evidence(bundle, evidence)

    write_report(bundle.path, tmp_path / "r.html", markdown=tmp_path / "r.md")

    page = (tmp_path / "r.html").read_text()
    assert '<span class="badge">Pass</span>' in page
    assert "123.0 MB" in page
    assert bundle.id in page
    for text in (page, (tmp_path / "r.md").read_text()):
        assert "The machine was noisy while it was timed (other programs used 31" in text.replace(
            "\\", ""
        )
        assert "other programs used 31% of the CPUs" in text
        assert "1.04×" in text


QUANTIZED = QuantizeResult(
    Path("out/q"), "ab" * 32, "int8-dynamic", 8, "host", "onnxruntime", {"MatMul": 3}, (), 25, 0.25,
    Latency(20.0, 10.0, Interval(2.0, 1.9, 2.1)),
    Accuracy("accuracy", 0.9, 0.898, 0.0022, -0.001, 0.005, 4000, None), "pass", {},
    workload={"batch": 1, "length": 128},
)  # fmt: skip


def test_a_quantization_is_rendered(tmp_path: Path) -> None:
    """The accuracy that it proved; its speed, which is against the input, as a note."""
    path = tmp_path / "quantize.json"
    path.write_text(json.dumps(to_json(QUANTIZED)))
    write_report(path, None, markdown=tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    assert "Pass: q" in text
    assert "4,000 samples" in text
    assert "2.00× its input's" in text
    assert "Built, not run on host" in text


def test_a_quantization_that_left_nothing_is_not_called_built(tmp_path: Path) -> None:
    """It tells of no run because there is no bundle, not because the device was not there."""
    path = tmp_path / "quantize.json"
    path.write_text(json.dumps(to_json(replace(QUANTIZED, output=None, verdict="fail"))))
    write_report(path, None, markdown=tmp_path / "r.md")
    assert "not run on" not in (tmp_path / "r.md").read_text()


def test_a_quantization_without_a_candidate_is_not(tmp_path: Path) -> None:
    """There is nothing to draw, and that is said."""
    none = replace(QUANTIZED, bundle_id=None, bytes=None, ratio_to_input=None, bits=None)
    path = tmp_path / "quantize.json"
    path.write_text(json.dumps({**to_json(none), "error": {"message": "No."}}))  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="no candidate to report"):
        write_report(path, None, markdown=tmp_path / "r.md")


def test_a_build_is_rendered_by_its_validation(tmp_path: Path) -> None:
    """That of the candidate it chose; without one it is told."""
    path = tmp_path / "build.json"
    build = {"output": "q", "candidates": [{}], "validation": to_json(results.validation())}
    path.write_text(json.dumps(build))
    write_report(path, None, markdown=tmp_path / "r.md")
    assert "Pass" in (tmp_path / "r.md").read_text()
    path.write_text(json.dumps({**build, "validation": None}))
    with pytest.raises(ConfigError, match="chose none of its 1 candidates"):
        write_report(path, None, markdown=tmp_path / "r2.md")


def test_a_quantized_bundle_is_reported_from_its_step(classifier: Path, tmp_path: Path) -> None:
    """What `quantize` wrote into the manifest is evidence, until a validation records more."""
    bundle = open_bundle(shutil.copytree(classifier, tmp_path / "copy"))
    facts = {
        "verdict": "pass", "accuracy": to_json(QUANTIZED.accuracy), "judged_on": "movies.csv",
        "latency": to_json(QUANTIZED.latency), "notes": ["Something to know."],
    }  # fmt: skip
    steps = (*bundle.manifest.steps, Step("quantize", facts=facts))
    (bundle.path / "edgekit.json").write_bytes(replace(bundle.manifest, steps=steps).to_json())
    write_report(bundle.path, None, markdown=tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    assert "4,000 samples" in text
    assert "judged on movies.csv" in text.replace("\\", "")
    assert "Something to know." in text
    assert "2.00× its input's" in text
