"""Trained models of two kinds, on both engines: judged and timed by the commands, with reports.

What the commands print fits its published schema; no figure is asserted, only that it is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from referencing import Registry, Resource

from benchmarks.zoo import fetch
from tests.conftest import make_once

pytestmark = pytest.mark.slow

ENGINES = {"onnxruntime": "cpu-x86", "openvino": "openvino-cpu"}
SHORT = ("--processes", "2")


def schema(name: str) -> Mapping[str, object]:
    """A published schema."""
    text = (resources.files("edgekit.core") / f"{name}.schema.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def fits(result: object, name: str) -> None:
    """Check a result against its schema, which may refer to the bench's."""
    registry: Registry[Mapping[str, object]] = Registry().with_resource(
        "bench.schema.json", Resource.from_contents(schema("bench"))
    )
    jsonschema.Draft202012Validator(schema(name), registry=registry).validate(result)


def command(*words: object) -> tuple[int, dict[str, object], str]:
    """(exit code, the JSON object on standard output, standard error) of an edgekit command."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, words), "--json"],
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return done.returncode, result, done.stderr


def source_of(name: str) -> str:
    """The SOURCE of a model of the zoo."""
    return f"{fetch(name)}/model.py:build" if name == "digits-cnn" else str(fetch(name))


def declared(name: str) -> tuple[str, ...]:
    """The inputs that a custom module needs named."""
    return ("--input", "image=float32:batch,1,28,28") if name == "digits-cnn" else ()


def data_of(name: str) -> Path:
    """Labelled data that the model was not trained on."""
    if name == "digits-cnn":
        return fetch("digits") / "digits.npz"
    return fetch("movies") / "movies.csv"


@pytest.fixture(scope="module", params=["minilm-sentiment", "digits-cnn"])
def name(request: pytest.FixtureRequest) -> str:
    """A model of the zoo."""
    return str(request.param)


@pytest.fixture(scope="module")
def line(shared: Path, name: str) -> Path:
    """A folder with the bundles of a model: exported, and one for each engine."""

    def make(folder: Path) -> None:
        folder.mkdir()
        source = source_of(name)
        code, _, errors = command("export", source, "-o", folder / "exported", *declared(name))
        assert code == 0, errors
        for engine, target in ENGINES.items():
            made = folder / engine
            code, _, errors = command(
                "compile", folder / "exported", "-o", made, "--target", target
            )
            assert code == 0, errors

    return make_once(shared / f"{name}-line", make)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bundle_is_judged(line: Path, name: str, engine: str, tmp_path: Path) -> None:
    """Verdict, worst samples, layers and both reports of one run."""
    code, result, errors = command(
        "validate", line / engine, "--reference", source_of(name), "--data", data_of(name),
        "--limit", "600", "--budget", "3", *SHORT, "--html", tmp_path / "r.html",
        "--markdown", tmp_path / "r.md", "--worst", tmp_path / "w.jsonl", "--worst-count", "30",
        "--layers", line / "exported",
    )  # fmt: skip
    fits(result, "validate")
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


def test_engines_are_compared(line: Path, name: str) -> None:
    """Both engines and the bare graph beside PyTorch, as a server answers requests."""
    code, result, errors = command(
        "bench", line / "onnxruntime", line / "openvino", line / "exported" / "model.onnx",
        "--reference", source_of(name), *declared(name), "--scenario", "server", "--qps", "20",
        "--budget", "8", *SHORT,
    )  # fmt: skip
    fits(result, "bench")
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
