"""Biases of attention with one slice per head, made once for the heads of all layers.

A layer with fewer heads takes the slices of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgekit.sources.pruned.plan import Kept

# Where a layer of T5's gives back the bias, whose attention has it by this name.
_GIVEN, _NAME = 1, "position_bias"


class HeadBias:
    """Before an attention is called: takes the kept heads' part of a bias made for all heads."""

    def __init__(self, place: int, kept: Kept) -> None:
        self.place = place
        self.kept = kept

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with the bias `[1, heads, query, key]` cut."""
        if len(args) <= self.place or args[self.place] is None:
            return args
        return _replaced(args, self.place, _cut(args[self.place], self.kept))


class HandedBias:
    """Around a layer of T5's: its attention takes the kept heads' part, and the rest is handed on.

    The first layer makes the bias, of as many heads as its table has columns: that stays whole.
    """

    def __init__(self, place: int, kept: Kept) -> None:
        self.place = place
        self.kept = kept

    def attach(self, layer: nn.Module, attention: nn.Module) -> None:
        """Have a layer and its attention called with what is theirs."""
        layer.register_forward_pre_hook(self.made)
        attention.register_forward_pre_hook(self.taken, with_kwargs=True)
        layer.register_forward_hook(self.handed)

    def made(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The layer's arguments with the bias `[1, heads, query, key]` of all heads."""
        if args[self.place] is not None:
            return args
        length, device = args[0].shape[1], args[0].device
        attention: Any = next(part for part in layer.modules() if hasattr(part, "compute_bias"))
        return _replaced(args, self.place, attention.compute_bias(length, length, device=device))

    def taken(
        self, attention: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The attention's arguments with the part of the heads that it has."""
        return args, {**named, _NAME: _cut(named[_NAME], self.kept)}

    def handed(self, layer: nn.Module, args: tuple[Any, ...], output: tuple[Any, ...]) -> object:
        """What the layer gives, with the bias of all heads."""
        return _replaced(output, _GIVEN, args[self.place])


def _cut(bias: Tensor, kept: Kept) -> Tensor:
    return bias.index_select(1, torch.tensor(kept, device=bias.device))


def _replaced(values: tuple[Any, ...], place: int, value: object) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])
