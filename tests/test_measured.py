"""Trained models of two kinds, on both engines: judged and timed by the commands, with reports.

What the commands print fits its published schema; no figure is asserted, only that it is there.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgekit
from tests.conftest import make_once
from tests.schemas import check_schema_of
from tests.zoo_bundles import command, data_of, declared, exported, source_of

pytestmark = pytest.mark.slow

ENGINES = {"onnxruntime": "cpu-x86", "openvino": "openvino-cpu"}
SHORT = ("--processes", "2")


@pytest.fixture(scope="module", params=["minilm-sentiment", "digits-cnn"])
def name(request: pytest.FixtureRequest) -> str:
    """A model of the zoo."""
    return str(request.param)


@pytest.fixture(scope="module")
def line(shared: Path, name: str) -> Path:
    """A folder with the bundles of a model that were compiled, one for each engine."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for engine, target in ENGINES.items():
            edgekit.compile(exported(shared, name), folder / engine, target=target)

    return make_once(shared / f"{name}-line", make)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bundle_is_judged(
    shared: Path, line: Path, name: str, engine: str, tmp_path: Path
) -> None:
    """Verdict, worst samples, layers and both reports of one run."""
    code, result, errors = command(
        "validate", line / engine, "--reference", source_of(name), "--data", data_of(name),
        "--limit", "600", "--budget", "3", *SHORT, "--html", tmp_path / "r.html",
        "--markdown", tmp_path / "r.md", "--worst", tmp_path / "w.jsonl", "--worst-count", "30",
        "--layers", exported(shared, name),
    )  # fmt: skip
    check_schema_of("validate", result)
    assert code == 0, errors
    assert result["verdict"] == "pass"
    accuracy = result["accuracy"]
    assert isinstance(accuracy, dict)
    assert (accuracy["metric"], accuracy["samples"]) == ("accuracy", 600)
    assert accuracy["reference"] == pytest.approx(accuracy["candidate"], abs=1e-3)
    worst = [json.loads(row) for row in (tmp_path / "w.jsonl").read_text().splitlines()]
    assert len(worst) == 30
    assert worst[0]["distance"] >= worst[-1]["distance"]
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Pass" in page
    assert len(page.encode()) < 1_500_000
    assert "accuracy" in (tmp_path / "r.md").read_text(encoding="utf-8")


def test_engines_are_compared(shared: Path, line: Path, name: str) -> None:
    """Both engines and the bare graph beside PyTorch, as a server answers requests."""
    code, result, errors = command(
        "bench", line / "onnxruntime", line / "openvino", exported(shared, name) / "model.onnx",
        "--reference", source_of(name), *declared(name), "--scenario", "server", "--qps", "20",
        "--budget", "8", *SHORT,
    )  # fmt: skip
    check_schema_of("bench", result)
    assert code == 0, errors
    rows = result["contenders"]
    assert isinstance(rows, list)
    assert {row["error"] for row in rows} == {None}
    assert {row["offered_qps"] for row in rows} == {20}
    workloads = 1 if name == "digits-cnn" else 2
    assert len(rows) == 4 * workloads
    ratios = result["ratios"]
    assert isinstance(ratios, list)
    assert {ratio["a"] for ratio in ratios} == {"pytorch"}
