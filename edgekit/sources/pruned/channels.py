"""Cutting the channels of a convolutional network: slices of weights, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgekit.core.errors import SourceError
from edgekit.sources.pruned.plan import Plan

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


def has_channels(source: LoadedSource) -> bool:
    """Whether a source is a network of convolutions, more than one."""
    found = [part for part in source.module.modules() if isinstance(part, nn.Conv2d)]
    attention = any(isinstance(part, nn.MultiheadAttention) for part in source.module.modules())
    return len(found) > 1 and not attention


def apply_channels(model: nn.Module, plan: Plan) -> None:
    """Cut channels in place. Raises SourceError where the plan was made for another model."""
    touched: dict[str, nn.Module] = {}
    groups = {
        name: (part.groups, part.groups == part.in_channels == part.out_channels)
        for name, part in model.named_modules()
        if isinstance(part, _ConvNd)
    }
    for row in plan.tensors:
        path, _, name = row.name.rpartition(".")
        try:
            part = model.get_submodule(path)
            tensor = cast("Tensor", getattr(part, name))
            size = tensor.shape[row.axis]
        except (AttributeError, IndexError) as error:
            raise _other(model, f"no {row.name} of {row.axis + 1} axes") from error
        if size != row.size:
            raise _other(model, f"{row.name} with {size} channels, not {row.size}")
        kept = torch.tensor(row.kept, device=tensor.device)
        chosen = tensor.detach().index_select(row.axis, kept).contiguous()
        if isinstance(tensor, nn.Parameter):
            chosen = nn.Parameter(chosen, requires_grad=tensor.requires_grad)
        setattr(part, name, chosen)
        touched[path] = part
    for path, part in touched.items():
        _count_again(part, *groups.get(path, (1, False)))


def _other(model: nn.Module, what: str) -> SourceError:
    return SourceError(
        f"The plan was made for another model: {type(model).__name__} has {what}.",
        hint="Give the model that the plan was made for, or prune this one (edgekit prune).",
    )


def _count_again(part: nn.Module, groups: int, depthwise: bool) -> None:
    """Set the sizes that a module tells of itself to those of its weights."""
    if isinstance(part, _ConvNd):
        # A depthwise convolution has as many groups as channels.
        part.groups = part.weight.shape[0] if depthwise else groups
        first, second = part.weight.shape[0], part.weight.shape[1] * part.groups
        if part.transposed:
            first, second = part.weight.shape[1] * part.groups, part.weight.shape[0]
        part.out_channels, part.in_channels = first, second
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, _BatchNorm) and part.running_var is not None:
        part.num_features = part.running_var.shape[0]
    elif isinstance(part, nn.GroupNorm):
        part.num_channels = part.weight.shape[0]
    elif hasattr(part, "normalized_shape") and isinstance(part.weight, Tensor):
        part.normalized_shape = tuple(part.weight.shape)  # type: ignore[assignment]
