"""Parameters and operations are those that a hand count finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from edgekit.pruning.counting import count
from edgekit.pruning.structures import cut, layers_of
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import whole_plan
from tests.pruning.sources import text_source
from tests.sources.pruned.masking import plan_of


def by_hand(source: LoadedSource, inputs: dict[str, torch.Tensor]) -> int:
    """Two operations for every weight of a linear layer and token, and for attention's products."""
    total = 0

    def add(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += 2 * output.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            each = (
                module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            )
            total += 2 * output.numel() * each

    handles = [
        part.register_forward_hook(add)
        for part in source.module.modules()
        if isinstance(part, (nn.Linear, nn.Conv2d))
    ]
    with torch.inference_mode():
        source.module(**inputs)
    for handle in handles:
        handle.remove()
    if "input_ids" in inputs:
        batch, length = inputs["input_ids"].shape
        for row in layers_of(source).layers:
            total += 2 * 2 * batch * row.heads * row.head_size * length * length
    return total


def test_a_transformer(tmp_path: Path) -> None:
    """Before and after a cut, with the attention that CPUs fuse."""
    source = text_source(tmp_path)
    plan = plan_of(source.module.model, layers=(0, 2))
    whole = whole_plan(source)
    pruned = cut(source, replace(whole, layers=plan.layers, kept_layers=plan.kept_layers))
    inputs = dict(source.sample_inputs)
    for one in (source, pruned):
        found = count(one, inputs)
        assert found.flops == by_hand(one, inputs)
        assert found.parameters == one.parameters
    assert count(pruned).flops < count(source).flops
    assert pruned.origin is not None
    assert pruned.origin.sha256 == source.sha256


def test_a_network_of_convolutions() -> None:
    """Strides, padding and groups as they are."""
    source = open_source("tests.models:cnn_with_samples")
    inputs = dict(source.sample_inputs)
    assert count(source, inputs).flops == by_hand(source, inputs)
