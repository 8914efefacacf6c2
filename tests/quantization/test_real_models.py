"""Quantized for ONNX Runtime: what only trained weights can show."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.zoo import fetch
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.quantization import onnxruntime
from edgekit.quantization.recipes import Recipe
from edgekit.runtime.engines.onnxruntime import open_session
from tests.quantization.networks import VNNI
from tests.zoo_bundles import exported

pytestmark = pytest.mark.slow

Feeds = Mapping[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def minilm(shared: Path) -> Bundle:
    """The exported embedding model."""
    return open_bundle(exported(shared, "minilm"))


@pytest.fixture(scope="module")
def digits(shared: Path) -> Bundle:
    """The exported digit classifier."""
    return open_bundle(exported(shared, "digits-cnn"))


def _rows(bundle: Bundle, texts: Sequence[str]) -> list[Feeds]:
    """One call a text."""
    tokenizer = Tokenizer.from_file(str(bundle.path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    rows: list[Feeds] = []
    for one in tokenizer.encode_batch(texts):
        ids = np.array([one.ids], dtype=np.int64)
        rows.append(
            {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": np.zeros_like(ids),
            }
        )
    return rows


def _column(path: Path, count: int, start: int = 0) -> list[str]:
    with path.open(encoding="utf-8") as stream:
        return [row["text"] for row in csv.DictReader(stream)][start : start + count]


def _answers(folder: Path, bundle: Bundle, rows: Sequence[Feeds], **changes: object) -> NDArray:
    part = replace(bundle.manifest.components["model"], **changes)
    session = open_session(folder, part, options={}, device="cpu", threads=None)
    try:
        return np.concatenate([session.run(feeds)[part.outputs[0].name] for feeds in rows])
    finally:
        session.close()


def _cosine(a: NDArray, b: NDArray) -> float:
    """The mean over rows."""
    products = (a * b).sum(axis=1)
    return float((products / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


@pytest.mark.parametrize(
    ("recipe", "least", "most_mb"),
    [
        (Recipe("int8-dynamic"), 0.99, 25),
        (Recipe("int8-dynamic", smooth=0.75), 0.997, 25),
        (Recipe("int8-static", smooth=0.75), 0.997, 25),
        (Recipe("weight-int8"), 0.999, 26),
    ],
)
def test_embeddings_stay_near(
    minilm: Bundle, tmp_path: Path, recipe: Recipe, least: float, most_mb: float
) -> None:
    """MiniLM at a quarter of its size, for short texts as calibrated and long ones of another kind.

    All 36 products reach an integer kernel.
    """
    movies = fetch("movies") / "movies.csv"
    prepared = onnxruntime.prepare(
        minilm, "model", VNNI, tmp_path / "work", _rows(minilm, _column(movies, 128))
    )
    made = prepared.write(recipe, tmp_path / "out")
    kernels = made.facts["integer_kernels"]
    assert isinstance(kernels, dict)
    assert sum(kernels.values()) == 36
    assert (tmp_path / "out" / "model.onnx").stat().st_size < most_mb * 1e6
    long = sorted(set(_column(fetch("similarity") / "lee.csv", 200)))[:20]
    for texts in (_column(movies, 100, start=1000), long):
        rows = _rows(minilm, texts)
        expected = _answers(minilm.path, minilm, rows)
        found = _answers(tmp_path / "out", minilm, rows, files=made.component.files)
        assert _cosine(found, expected) >= least


def test_digits_lose_nothing(digits: Bundle, tmp_path: Path) -> None:
    """The digit classifier in 8 bits is right as often, within a thousandth."""
    data = np.load(fetch("digits") / "digits.npz")
    samples = [{"image": data["image"][at : at + 1]} for at in range(256)]
    prepared = onnxruntime.prepare(digits, "model", VNNI, tmp_path / "work", samples)
    made = prepared.write(Recipe("int8-static"), tmp_path / "out")
    assert made.facts["integer_kernels"] == {"QGemm": 2, "QLinearConv": 3}
    batches = [{"image": data["image"][at : at + 500]} for at in range(1000, 10_000, 500)]
    expected = _answers(digits.path, digits, batches)
    found = _answers(tmp_path / "out", digits, batches)
    right = data["label"][1000:]
    drop = (expected.argmax(axis=1) == right).mean() - (found.argmax(axis=1) == right).mean()
    assert drop <= 0.001
