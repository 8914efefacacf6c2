"""What can be cut of a source, and of which sources nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.errors import PruneError
from edgekit.pruning.structures import cut, layer_modules, structures_of
from edgekit.sources.families import FAMILIES as EXPORTED
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import whole_plan
from edgekit.sources.pruned.families import SKIPPED, find_family
from tests.picture_models import save_picture_model
from tests.pruning.sources import text_source

# Exported families of convolutions, whose channels are cut, and imports, which are no PyTorch.
CHANNELS = ("resnet", "convnext", "mobilenet-v2")
OTHER_NAMES = {"ast": "audio-spectrogram-transformer", "gemma3": "gemma3_text"}


def test_every_exported_family_is_pruned_or_skipped_for_a_reason() -> None:
    """By its layers or its channels, or it is a row of the table of what is skipped."""
    for family in EXPORTED:
        if family.key in CHANNELS or "imported" in family.name:
            continue
        kind = OTHER_NAMES.get(family.key, family.key)
        assert find_family(kind) is not None or kind in SKIPPED, kind


def test_a_transformer_has_three(tmp_path: Path) -> None:
    """Of one with a layer that layer is not to be taken."""
    source = text_source(tmp_path)
    assert structures_of(source) == ("heads", "ffn", "layers")
    assert len(layer_modules(source)) == 3
    single = cut(source, replace(whole_plan(source), kept_layers=(1,)))
    assert structures_of(single) == ("heads", "ffn")
    assert len(layer_modules(source)) == 3
    assert source.plan is None


@pytest.mark.parametrize("family", ["swin", "segformer", "detr"])
def test_a_family_that_is_skipped_says_why(family: str, tmp_path: Path) -> None:
    """Also where it holds convolutions."""
    source = open_source(str(save_picture_model(family, tmp_path / "model")))
    with pytest.raises(PruneError, match=SKIPPED[family][:30]):
        structures_of(source)


def test_two_towers_are_refused(tmp_path: Path) -> None:
    """CLIP's components are not one model, and the reason is told."""
    source = open_source(str(save_picture_model("clip", tmp_path / "model")))
    with pytest.raises(PruneError, match=r"2 components \(image, text\), and .* its towers share"):
        structures_of(source)


def test_a_network_without_either_is_refused(tmp_path: Path) -> None:
    """Nothing in it is a head, a layer or a channel."""
    source = open_source("tests.models:linear_regression", inputs=("x=float32:batch,10",))
    assert layer_modules(source) == []
    with pytest.raises(PruneError, match="no model of transformers"):
        structures_of(source)
