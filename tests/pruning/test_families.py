"""Every family that can be pruned, from PyTorch to both engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.tolerance import tolerance_for
from edgekit.pruning.counting import count
from edgekit.pruning.structures import cut
from edgekit.runtime.golden import distance, row_length
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import whole_plan
from edgekit.sources.pruned.folder import save_pruned
from tests.models import save_model
from tests.picture_models import save_picture_model
from tests.sources.pruned.masking import plan_of

TEXTS = ("bert", "distilbert", "roberta", "deberta-v2", "mpnet", "modernbert")
PICTURES = ("vit", "deit")


@pytest.mark.slow
@pytest.mark.parametrize("family", [*TEXTS, *PICTURES])
def test_both_engines_answer_like_the_pruned_module(family: str, tmp_path: Path) -> None:
    """Heads and neurons differ by layer, and a layer is gone; all that was reported is saved."""
    saved = tmp_path / "model"
    if family in PICTURES:
        save_picture_model(family, saved)
    else:
        save_model(family, "text-classification", saved, layers=3)
    source = open_source(str(saved))
    drawn = plan_of(source.module.model)
    kept = drawn.kept_layers if family in PICTURES else (0, 2)
    plan = replace(whole_plan(source), layers=drawn.layers, kept_layers=kept)
    pruned = cut(source, plan)
    folder = tmp_path / "pruned"
    folder.mkdir()
    save_pruned(source, pruned, plan, folder)
    opened = open_source(str(folder))
    edgekit.export(str(saved), tmp_path / "whole-bundle")
    edgekit.export(str(folder), tmp_path / "bundle")
    with torch.inference_mode():
        reference = opened.module(**opened.sample_inputs)["logits"].numpy()
        in_memory = pruned.module(**opened.sample_inputs)["logits"].numpy()
    np.testing.assert_allclose(reference, in_memory, atol=1e-6)
    rule = tolerance_for("fp32")
    for engine in ("onnxruntime", "openvino"):
        with edgekit.load(tmp_path / "bundle", engine=engine, threads=1) as model:
            names = [spec.name for spec in model.manifest.components["model"].inputs]
            feeds = {name: opened.sample_inputs[name].numpy() for name in names}
            got = model.run(feeds)["logits"]
        max_abs, cosine = distance(got, reference)
        assert rule.accepts(
            max_abs=max_abs,
            max_reference=float(np.abs(reference).max()),
            cosine=cosine,
            row=row_length(reference),
        ), f"{engine}: off by {max_abs:.3g}"
    whole, bundle = open_bundle(tmp_path / "whole-bundle"), open_bundle(tmp_path / "bundle")
    stated = bundle.manifest.source
    assert stated is not None
    assert stated.origin.sha256 == source.sha256
    assert stated.sha256 == opened.sha256 != source.sha256
    assert stated.parameters == count(opened).parameters < source.parameters
    assert count(opened).flops < count(source).flops
    # In float32 a parameter less is four bytes less; the graph of a layer is a few thousand more.
    saved_bytes = whole.bytes() - bundle.bytes()
    assert saved_bytes >= 4 * (source.parameters - stated.parameters) * 0.95
