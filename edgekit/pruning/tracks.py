"""A model followed layer by layer: how each layer is called, and what goes through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from edgekit.pruning.structures import layers_of
from edgekit.sources.pruned.cutting import Layer

if TYPE_CHECKING:
    from edgekit.pruning.feeding import Batch
    from edgekit.sources.loaded import LoadedSource


@dataclass(eq=False)
class Call:
    """How a layer was called on one batch, but for the hidden states that it gets."""

    rest: tuple[Any, ...]
    named: dict[str, Any]
    by_name: bool

    def run(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        """What a layer makes of other hidden states, called as it was."""
        if self.by_name:
            output = layer(*self.rest, **{**self.named, "hidden_states": hidden})
        else:
            output = layer(hidden, *self.rest, **self.named)
        return cast("Tensor", output[0] if isinstance(output, tuple) else output)


@dataclass(eq=False)
class Track:
    """One model on its way through the layers: their calls, and where each batch stands."""

    layers: tuple[Layer, ...]
    calls: list[list[Call]]
    hidden: list[Tensor]


@dataclass(eq=False)
class Seen:
    """What hooks saw of a layer on one batch: what went into and out of its linear layers."""

    into_out: Tensor | None = None
    out: Tensor | None = None
    into_ffn: Tensor | None = None
    into_down: Tensor | None = None
    down: Tensor | None = None


class _Enough(Exception):
    """What was looked for has been seen: the rest of a layer need not run."""


def watched(
    layer: Layer, call: Call, hidden: Tensor, *, enough: str | None = None
) -> tuple[Seen, Tensor]:
    """Run a layer and keep what goes through its linear layers; stop behind the one of a name."""
    seen = Seen()

    def out(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.into_out, seen.out = args[0], output
        if enough == "out":
            raise _Enough

    def up(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.into_ffn = args[0]

    def down(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.into_down, seen.down = args[0], output
        if enough == "down":
            raise _Enough

    handles = [
        layer.out.register_forward_hook(out),
        layer.ups[0].register_forward_hook(up),
        layer.down.register_forward_hook(down),
    ]
    after = hidden
    try:
        after = call.run(layer.module, hidden)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return seen, after


def tracked(source: LoadedSource, given: Sequence[Batch]) -> Track:
    """How the layers of a model are called on each batch, and what the first of them gets.

    Only the first batch runs through them: how a layer is called does not depend on the one before,
    but for the hidden states. Where layers hand on a bias besides these, all batches do.
    """
    found = layers_of(source)
    layers = found.layers
    calls: list[list[Call]] = [[] for _ in layers]
    hidden: list[Tensor] = []
    pairs: dict[int, bool] = {}
    through = 1 if found.family.handed_bias is None else len(given)

    def note(place: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        named = dict(kwargs)
        by_name = not args
        first = cast("Tensor", named.pop("hidden_states") if by_name else args[0])
        calls[place].append(Call(tuple(args[1:]), named, by_name))
        if place == 0:
            hidden.append(first)
        return first

    def look(place: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
            note(place, args, kwargs)
            pairs[place] = isinstance(output, tuple)

        return hook

    def instead(place: int) -> Callable[..., object]:
        def forward(*args: Any, **kwargs: Any) -> object:
            first = note(place, args, kwargs)
            return (first, None) if pairs[place] else first

        return forward

    handles = [
        row.module.register_forward_hook(look(place), with_kwargs=True)
        for place, row in enumerate(layers)
    ]
    try:
        for batch in given[:through]:
            source.module(**batch.inputs)
    finally:
        for handle in handles:
            handle.remove()
    try:
        for place, row in enumerate(layers):
            row.module.forward = instead(place)
        for batch in given[through:]:
            source.module(**batch.inputs)
    finally:
        for row in layers:
            vars(row.module).pop("forward", None)
    return Track(layers, calls, hidden)
