"""What quantizing for OpenVINO leaves of a trained model's embeddings."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.zoo import fetch
from edgekit.core.bundle import open_bundle
from edgekit.core.profiles import load_profile
from edgekit.quantization.openvino import OpenVinoPrepared, prepare, recipes
from edgekit.quantization.recipes import Feeds, Recipe
from edgekit.runtime.engines.openvino import open_session
from tests.zoo_bundles import exported

pytestmark = pytest.mark.slow

PROFILE = load_profile("host")


@pytest.fixture(scope="module")
def rows(shared: Path) -> list[Feeds]:
    """Sentences as tokens, each of its own length: the first 48 for calibration."""
    tokenizer = Tokenizer.from_file(str(fetch("minilm") / "tokenizer.json"))
    tokenizer.no_padding()
    with (fetch("movies") / "movies.csv").open(encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:148]
    encoded = [tokenizer.encode(text) for text in texts]
    return [
        {
            "input_ids": np.array([item.ids], dtype=np.int64),
            "attention_mask": np.ones((1, len(item.ids)), dtype=np.int64),
            "token_type_ids": np.zeros((1, len(item.ids)), dtype=np.int64),
        }
        for item in encoded
    ]


@pytest.fixture(scope="module")
def prepared(shared: Path, rows: list[Feeds]) -> OpenVinoPrepared:
    """MiniLM, exported and made ready."""
    bundle = open_bundle(exported(shared, "minilm"))
    return prepare(bundle, "model", PROFILE, shared / "minilm-openvino", rows[:48])


def embed(
    xml: Path, prepared: OpenVinoPrepared, rows: list[Feeds], **options: object
) -> np.ndarray:
    """The embeddings, float32 [rows, hidden]."""
    part = prepared.source.manifest.components["model"]
    part = replace(part, format="openvino-ir", files=(xml.name,))
    options = {"precision_hint": "f32", **options}
    session = open_session(xml.parent, part, options=options, device="cpu", threads=1)
    found = [session.run(row)["sentence_embedding"] for row in rows]
    session.close()
    return np.concatenate(found)


@pytest.fixture(scope="module")
def reference(prepared: OpenVinoPrepared, rows: list[Feeds]) -> np.ndarray:
    """What the float graph computes."""
    return embed(prepared.xml, prepared, rows[48:])


def variants(prepared: OpenVinoPrepared) -> dict[str, Recipe]:
    """Recipes by name: rounding at each call, and ranges with the hardest groups raised."""
    static = recipes(PROFILE, "static", None)[0]
    hard = [group.name for group in prepared.groups if group.kind == "feed-forward output"]
    assert len(hard) == 6
    return {
        "dynamic": recipes(PROFILE, "dynamic", None)[0],
        "static": replace(static, levels=dict.fromkeys(hard, "weight-int8")),
    }


@pytest.mark.parametrize("name", ["dynamic", "static"])
def test_embeddings_keep_their_direction(
    name: str,
    prepared: OpenVinoPrepared,
    rows: list[Feeds],
    reference: np.ndarray,
    tmp_path: Path,
) -> None:
    """A mean cosine of .997 in a quarter of the size, each product on integers or 8-bit weights."""
    written = prepared.write(variants(prepared)[name], tmp_path)
    found = embed(tmp_path / "model.xml", prepared, rows[48:], **written.options)
    assert np.mean(np.sum(found * reference, axis=1)) >= 0.997
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 25e6
    assert written.quantized_ops["MatMul"] == 36
    assert written.facts["attention_operators"] == 6
