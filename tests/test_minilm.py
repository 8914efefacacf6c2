"""A real model through the whole line: the commands as typed, then the bundles as an app has them.

What only trained weights can show: that the answers mean something, and still the same thing.
"""

from __future__ import annotations

import asyncio
import csv
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import edgekit
from benchmarks.zoo import fetch
from edgekit.runtime.model import Model
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from tests.conftest import make_once

pytestmark = pytest.mark.slow

Floats = NDArray[np.float32]
# The commands of the line, and the least that their JSON holds.
COMMANDS = {
    "export": (
        "output", "bundle_id", "task", "architecture", "opset", "inputs", "outputs", "parity",
        "bytes", "seconds", "peak_rss_bytes",
    ),
    "verify": ("integrity", "golden", "engine", "passed"),
    "compile": (
        "output", "bundle_id", "target", "engine", "device", "runtime", "bytes", "load_ms",
        "run_on",
    ),
    "validate": (
        "verdict", "accuracy", "numerics", "latency", "size", "gates", "device", "versions",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    """The model as its authors published it."""
    return fetch("minilm")


@pytest.fixture(scope="module")
def line(shared: Path, folder: Path) -> Path:
    """A folder with the bundles ``a`` (exported) and ``b`` (OpenVINO), made by the commands.

    What every command said stands beside them, in a file of its name.
    """
    return make_once(shared / "minilm-line", lambda made: _run_line(folder, made))


def _run_line(folder: Path, made: Path) -> None:
    made.mkdir()
    a, b = made / "a", made / "b"
    for name, words in {
        "export": (folder, "-o", a),
        "verify": (a,),
        "compile": (a, "-o", b, "--target", "openvino-cpu"),
        "validate": (b, "--reference", folder, "--budget", "4", "--processes", "2"),
    }.items():
        code, output, errors = edgekit_command(name, *words, "--json")
        (made / f"{name}.json").write_text(json.dumps([code, output, errors]))


def edgekit_command(*words: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, words)], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def source(folder: Path) -> Iterator[LoadedSource]:
    """The model in PyTorch."""
    # Where another process keeps a core busy, its threads wait for each other many times longer
    # than they compute.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_source(str(folder))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=["a", "b"], ids=["onnxruntime", "openvino"])
def model(request: pytest.FixtureRequest, line: Path) -> Iterator[Model]:
    """The bundle of each engine, opened."""
    with edgekit.load(line / request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Lee's 50 news documents."""
    lines = (fetch("similarity") / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(row) for row in lines), key=lambda row: row["id"])
    return [row["text"] for row in rows]


def embed(source: LoadedSource, texts: list[str]) -> Floats:
    """PyTorch's embeddings `[texts, hidden]`, a text at a time, truncated by transformers."""
    assert source.tokenizer is not None
    rows = []
    for text in texts:
        encoded = source.tokenizer(
            text, truncation=True, max_length=source.max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            rows.append(source.module(**encoded)["sentence_embedding"][0].numpy())
    return np.stack(rows)


def lee(embeddings: Floats) -> float:
    """Pearson's r between cosine and what people said of each pair of documents."""
    with (fetch("similarity") / "pairs.csv").open(newline="", encoding="utf-8") as stream:
        pairs = [
            (int(r["first"]), int(r["second"]), float(r["score"])) for r in csv.DictReader(stream)
        ]
    assert len(pairs) == 1225
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = [float(unit[first] @ unit[second]) for first, second, _ in pairs]
    return float(np.corrcoef(cosines, [score for _, _, score in pairs])[0, 1])


@pytest.mark.parametrize("name", COMMANDS)
def test_command(line: Path, name: str) -> None:
    """Each command of the line exits with 0 and prints one JSON object with the promised keys."""
    code, output, errors = json.loads((line / f"{name}.json").read_text())
    assert code == 0, output + errors
    assert set(COMMANDS[name]) <= set(json.loads(output))


def test_what_the_commands_report(line: Path) -> None:
    """The nested results have their promised form, and say what is true of this model."""
    said = {
        name: json.loads(json.loads((line / f"{name}.json").read_text())[1]) for name in COMMANDS
    }
    exported, compiled, verdict = said["export"], said["compile"], said["validate"]
    assert (exported["task"], exported["architecture"]) == ("feature-extraction", "BertModel")
    assert [row["name"] for row in exported["outputs"]] == ["sentence_embedding"]
    assert len(exported["parity"]) >= 4
    for row in exported["parity"]:
        assert set(row) == {"shape", "output", "max_abs", "cosine", "argmax_agreement"}
    (golden,) = said["verify"]["golden"]
    assert golden["passed"]
    assert {"output", "max_abs", "tolerance", "passed", "to_reference"} <= set(golden)
    assert (compiled["target"], compiled["engine"]) == ("openvino-cpu", "openvino")
    assert compiled["run_on"]["precision"] == "fp32"
    assert verdict["verdict"] == "pass"
    assert verdict["accuracy"] is None
    assert set(verdict["numerics"]) == {"sentence_embedding"}
    assert set(verdict["numerics"]["sentence_embedding"]) == {
        "max_abs", "mean_abs", "cosine", "argmax_agreement", "kl",
    }  # fmt: skip
    assert set(verdict["latency"]) == {
        "reference_ms", "candidate_ms", "candidate_low_ms", "candidate_high_ms", "speedup",
    }  # fmt: skip
    assert set(verdict["latency"]["speedup"]) == {"value", "low", "high"}
    assert set(verdict["size"]) == {"reference_bytes", "candidate_bytes", "ratio"}


@pytest.fixture(scope="module")
def reference(source: LoadedSource, documents: list[str]) -> float:
    """Lee's figure as PyTorch has it."""
    return lee(embed(source, documents))


def test_document_similarity(model: Model, reference: float, documents: list[str]) -> None:
    """Lee's figure comes out of the bundle as out of PyTorch, to three decimals."""
    figure = lee(np.stack(cast("list[Floats]", model(documents))))
    assert round(reference, 3) == 0.656
    assert figure == pytest.approx(reference, abs=5e-5)


def test_long_text_is_cut(
    model: Model, source: LoadedSource, documents: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What the model cannot take is cut where transformers cuts it, and that is said."""
    text = " ".join(documents)
    (expected,) = embed(source, [text])
    before = cast("Floats", model(documents[0]))
    with edgekit.load(model.bundle.path, check="quick") as fresh, caplog.at_level(logging.WARNING):
        answer = cast("Floats", fresh(text))
    assert "truncated" in caplog.text
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert np.abs(answer - before).max() > 1e-3


def test_long_text_on_the_command_line(line: Path, documents: list[str]) -> None:
    """``edgekit run`` tells of the cut on standard error, beside the answer on standard output."""
    code, output, errors = edgekit_command("run", line / "a", " ".join(documents))
    assert code == 0, errors
    assert len(json.loads(output)) == 384
    assert "truncated" in errors


def test_many_threads(model: Model, documents: list[str]) -> None:
    """Four threads through one model get what one thread gets, each for its own texts."""
    texts = documents[:12]
    expected = [cast("Floats", model(text)) for text in texts]
    orders = [[*range(start, len(texts)), *range(start)] for start in (0, 3, 6, 9)]

    def answers(order: list[int]) -> list[tuple[int, Floats]]:
        return [(index, cast("Floats", model(texts[index]))) for index in order]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(answers, orders):
            for index, answer in found:
                np.testing.assert_allclose(answer, expected[index], atol=1e-6)


def test_acall(model: Model, documents: list[str]) -> None:
    """Awaited calls run side by side and give what plain calls give."""

    async def both() -> list[object]:
        return list(await asyncio.gather(*(model.acall(text) for text in documents[:3])))

    for text, answer in zip(documents, asyncio.run(both()), strict=False):
        np.testing.assert_allclose(cast("Floats", answer), cast("Floats", model(text)), atol=1e-6)
