"""Whether a plan of channels leaves a network that answers as if the others were zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from edgekit.core.errors import PruneError
from edgekit.pruning.structures import cut, inner_model
from edgekit.sources.pruned.plan import Plan

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# What reads channels through weights.
READERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
# Of the largest answer: float32 sums in another order.
_GAP = 1e-4
_NO_WAY = "Its forward counts or mixes channels by itself: quantize it instead."


def check_cut(source: LoadedSource, plan: Plan) -> None:
    """Raise PruneError where the cut is not what leaving out those channels would be.

    That is where it does not run, answers in other shapes, or otherwise than the whole network
    whose layers read zeros in the place of the channels that went.
    """
    try:
        with torch.inference_mode():
            after = cut(source, plan).module(**source.sample_inputs)
    except (RuntimeError, ValueError, IndexError) as error:
        raise PruneError(
            f"{source.id} does not run with fewer channels: {error}.", hint=_NO_WAY
        ) from error
    with torch.inference_mode():
        expected = _masked(source, plan)
    for name, value in expected.items():
        if name not in after or after[name].shape != value.shape:
            raise PruneError(
                f"With fewer channels the output {name} of {source.id} would not be"
                f" {list(value.shape)} any more.",
                hint=_NO_WAY,
            )
        gap = float((after[name] - value).abs().max()) if value.is_floating_point() else 0.0
        allowed = _GAP * float(value.abs().max()) + _GAP
        if gap > allowed:
            raise PruneError(
                f"The channels of {source.id} were not followed rightly through its layers: the"
                f" output {name} is off by {gap:.3g}, allowed {allowed:.3g}.",
                hint=_NO_WAY,
            )


def _masked(source: LoadedSource, plan: Plan) -> dict[str, Tensor]:
    """The whole network's answer with zeros where its layers would read what goes."""
    model = inner_model(source)
    handles = []
    for row in plan.tensors:
        path, _, name = row.name.rpartition(".")
        part = model.get_submodule(path)
        reads = isinstance(part, READERS) and name == "weight" and row.axis == 1
        if reads:
            mask = torch.zeros(row.size)
            mask[list(row.kept)] = 1
            shape = (
                (-1,) if isinstance(part, nn.Linear) else (-1, *[1] * (_weight_of(part).dim() - 2))
            )
            handles.append(part.register_forward_pre_hook(_zero(mask.reshape(shape))))
        elif name == "weight" and isinstance(part, (nn.LayerNorm, nn.GroupNorm)):
            handles.append(part.register_forward_hook(_normalize(row.size, row.kept)))
    try:
        return dict(source.module(**source.sample_inputs))
    finally:
        for handle in handles:
            handle.remove()


def _zero(mask: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda module, args: (args[0] * mask, *args[1:])


def _normalize(size: int, kept: Sequence[int]) -> Callable[..., Tensor]:
    """A norm over channels whose statistics are those of the kept ones alone."""

    def hook(norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        places = torch.tensor(kept)
        first = isinstance(norm, nn.GroupNorm) or args[0].shape[-1] != size
        if getattr(norm, "data_format", None) == "channels_first":
            first = True
        axis = 1 if first else args[0].dim() - 1
        x = args[0].index_select(axis, places).movedim(axis, -1)
        weight = _weight_of(norm)[places]
        bias = None if norm.bias is None else cast("Tensor", norm.bias)[places]
        eps = cast("float", norm.eps)
        if isinstance(norm, nn.GroupNorm):
            whole = nn.functional.group_norm(x.movedim(-1, 1), 1, weight, bias, eps)
        else:
            whole = nn.functional.layer_norm(x, (len(kept),), weight, bias, eps).movedim(-1, axis)
        return torch.zeros_like(output).index_copy(axis, places, whole)

    return hook


def _weight_of(part: nn.Module) -> Tensor:
    return cast("Tensor", part.weight)
