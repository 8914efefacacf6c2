"""The whole model with parts of it set to zero: what a cut model has to equal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edgekit.sources.pruned.cutting import layout
from edgekit.sources.pruned.plan import LayerPlan, Plan


def plan_of(model: nn.Module, *, layers: tuple[int, ...] | None = None, seed: int = 0) -> Plan:
    """A plan that keeps other heads and other numbers of neurons in every layer."""
    from edgekit.core.manifest import Origin

    generator = torch.Generator().manual_seed(seed)
    rows = []
    for place, layer in enumerate(layout(model).layers):
        heads = max(1, layer.heads - 1 - place % 2)
        width = layer.ffn // 2 + 8 * (place % 2)
        kept_heads = torch.randperm(layer.heads, generator=generator)[:heads]
        kept_ffn = torch.randperm(layer.ffn, generator=generator)[:width]
        rows.append(
            LayerPlan(
                layer.name,
                layer.heads,
                layer.ffn,
                tuple(sorted(kept_heads.tolist())),
                tuple(sorted(kept_ffn.tolist())),
            )
        )
    origin = Origin("tiny", "0" * 64)
    return Plan(
        origin,
        origin,
        str(model.config.model_type),
        "text-classification",
        tuple(rows),
        tuple(range(len(rows))) if layers is None else layers,
    )


def without_heads(plan: Plan) -> Plan:
    """The plan with all heads kept."""
    return replace(plan, layers=tuple(replace(row, kept_heads=None) for row in plan.layers))


@contextlib.contextmanager
def masked(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Set to zero what a plan cuts, and let dropped layers give back their input."""
    handles = []
    for place, layer in enumerate(layout(model).layers):
        row = plan.layers[place]
        if place not in plan.kept_layers:
            handles.append(layer.module.register_forward_hook(_identity))
            continue
        if row.kept_heads is not None:
            mask = torch.zeros(layer.heads, layer.group)
            mask[list(row.kept_heads)] = 1
            handles.append(layer.out.register_forward_pre_hook(_zero(mask.reshape(-1))))
        if row.kept_ffn is not None:
            mask = torch.zeros(layer.ffn)
            mask[list(row.kept_ffn)] = 1
            handles.append(layer.down.register_forward_pre_hook(_zero(mask)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _zero(mask: torch.Tensor) -> Any:
    return lambda module, args: (args[0] * mask,)


def _identity(module: nn.Module, args: Any, output: Any) -> Any:
    return (args[0], *output[1:]) if isinstance(output, tuple) else args[0]
