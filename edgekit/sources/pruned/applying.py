"""A plan on the model that it was made for, of whatever kind."""

from __future__ import annotations

from torch import nn

from edgekit.sources.pruned.channels import apply_channels
from edgekit.sources.pruned.cutting import apply_plan
from edgekit.sources.pruned.plan import Plan


def apply(model: nn.Module, plan: Plan) -> None:
    """Cut a model in place: its layers, its channels, or both.

    Raises SourceError where the plan was made for another model.
    """
    if plan.layers:
        apply_plan(model, plan)
    if plan.tensors:
        apply_channels(model, plan)
