"""A plan for tests, of four layers."""

from __future__ import annotations

from edgekit.core.manifest import Origin
from edgekit.sources.pruned.plan import LayerPlan, Plan

PLAN = Plan(
    Origin("m", "0" * 64),
    Origin("m", "0" * 64),
    "bert",
    "text-classification",
    tuple(LayerPlan(f"layer.{at}", 4, 8) for at in range(4)),
    (0, 1, 2, 3),
    structures=("ffn", "layers"),
    method="fisher",
)
