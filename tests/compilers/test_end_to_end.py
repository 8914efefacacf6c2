"""An exported transformer through both compilers: attention stays whole, answers stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from tests.models import save_model

LAYERS = 2


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_exported_model_keeps_its_attention_and_answers(tmp_path: Path, architecture: str) -> None:
    """BERT and a model with rotary positions, compiled for both engines, answer as exported."""
    source = save_model(architecture, "text-classification", tmp_path / "source", layers=LAYERS)
    exported = tmp_path / "exported"
    edgekit.export(str(source), exported)
    texts = ["A great film!", "The plot makes no sense, and I would not watch it twice."]
    with edgekit.load(exported) as model:
        wanted = [row["score"] for row in model(texts)]
    for target in ("cpu-x86", "openvino-cpu"):
        made = tmp_path / target
        edgekit.compile(exported, made, target=target, length=16)
        with edgekit.load(made) as model:
            facts = model.manifest.steps[-1].facts["components"]["model"]
            assert facts["attention_operators"] == LAYERS
            got = [row["score"] for row in model(texts)]
        np.testing.assert_allclose(got, wanted, atol=1e-4)
