"""Cutting a transformer: heads, neurons and layers are taken out of the modules themselves.

What is left computes exactly what the whole model computes with the rest set to zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from edgekit.core.errors import PruneError, SourceError
from edgekit.core.manifest import Origin
from edgekit.sources.pruned.biases import HandedBias, HeadBias
from edgekit.sources.pruned.families import Family, require_family
from edgekit.sources.pruned.plan import Kept, LayerPlan, Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from edgekit.sources.loaded import LoadedSource

_OTHER = "Give the model that the plan was made for, or prune this one (edgekit prune)."


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer with the modules that a cut, a mask or a repair touches.

    ``heads`` are groups where several heads share keys and values; ``group`` is the width of one
    in ``out``'s input. ``out`` and ``down`` are linear layers whose input has a slice per head
    and per neuron.
    """

    name: str
    module: nn.Module
    attention: nn.Module
    out: nn.Module
    ups: tuple[nn.Module, ...]
    down: nn.Module
    heads: int
    group: int
    head_size: int
    ffn: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The layers of a model, and the list that holds them."""

    family: Family
    base: nn.Module
    layers: tuple[Layer, ...]


def layout(model: nn.Module) -> Layout:
    """Where the layers of a transformers model are.

    Raises PruneError for a family that cannot be pruned, or sizes that do not divide.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise PruneError(
            f"{type(model).__name__} is no model of transformers: it has no heads and layers that"
            " edgekit could find.",
            hint="Quantize it instead.",
        )
    family = require_family(str(config.model_type))
    base: nn.Module = cast("PreTrainedModel", model).base_model
    found = base.get_submodule(family.layers)
    rows = [
        _layer(family, f"{family.layers}.{place}", module)
        for place, module in enumerate(cast("nn.ModuleList", found))
    ]
    _refuse_shared(model, rows, family)
    return Layout(family, base, tuple(rows))


def whole_plan(source: LoadedSource) -> Plan:
    """A plan that keeps all of a source: what others are derived from (`dataclasses.replace`)."""
    model = cast("PreTrainedModel", source.module.model)
    found = layout(model)
    base = Origin(source.id, source.sha256)
    return Plan(
        origin=source.origin or base,
        base=base,
        family=str(model.config.model_type),
        task=source.task,
        layers=tuple(LayerPlan(row.name, row.heads, row.ffn) for row in found.layers),
        kept_layers=tuple(range(len(found.layers))),
    )


def apply_plan(model: nn.Module, plan: Plan) -> None:
    """Cut a model in place. Raises SourceError where the plan was made for another model."""
    found = layout(model)
    sizes = [(row.name, row.heads, row.ffn) for row in found.layers]
    planned = [(row.name, row.heads, row.ffn) for row in plan.layers]
    if sizes != planned:
        raise SourceError(
            f"The plan is for {len(planned)} layers of {_describe(planned)}, and"
            f" {type(model).__name__} has {len(sizes)} of {_describe(sizes)}.",
            hint=_OTHER,
        )
    if not plan.kept_layers:
        raise PruneError("The plan keeps no layer.", hint="Keep at least one.")
    for place in plan.kept_layers:
        layer, row = found.layers[place], plan.layers[place]
        if row.kept_heads is not None:
            _cut_heads(found.family, layer, row.kept_heads)
        if row.kept_ffn is not None:
            _cut_ffn(found.family, layer, row.kept_ffn)
    if len(plan.kept_layers) < len(found.layers):
        _keep_layers(model, found, plan.kept_layers)


def input_weight(linear: nn.Module) -> Tensor:
    """The weight of a linear layer as `[outputs, inputs]`."""
    weight = _weight(linear).detach()
    return weight.T if isinstance(linear, Conv1D) else weight


def set_input_weight(linear: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Put values of the same shapes into a linear layer, the weight as `[outputs, inputs]`."""
    with torch.no_grad():
        _weight(linear).copy_(weight.T if isinstance(linear, Conv1D) else weight)
        if bias is not None:
            cast("Tensor", linear.bias).copy_(bias)


def output_weights(layer: Layer) -> list[Tensor]:
    """The weights that lead into a feed-forward block, each `[neurons, inputs]`."""
    found: list[Tensor] = []
    for part in layer.ups:
        weight = input_weight(part)
        found += [weight[at : at + layer.ffn] for at in range(0, len(weight), layer.ffn)]
    return found


def _describe(rows: Sequence[tuple[str, int, int]]) -> str:
    kinds = Counter((heads, ffn) for _, heads, ffn in rows)
    return ", ".join(f"{heads} heads and {ffn} neurons" for heads, ffn in list(kinds)[:3])


def _layer(family: Family, name: str, module: nn.Module) -> Layer:
    attention = module.get_submodule(family.attention)
    out, down = module.get_submodule(family.out), module.get_submodule(family.down)
    head_size = int(getattr(attention, family.head_size))
    width, ffn = _weight(out).shape[_axis(out, 1)], _weight(down).shape[_axis(down, 1)]
    groups = _groups(family, module, head_size)
    if width % (groups * head_size):
        raise PruneError(
            f"The attention of {name} is {width} wide, which its {groups} heads of {head_size} do"
            " not divide.",
            hint="Prune other structures (--structure ffn,layers).",
        )
    return Layer(
        name=name,
        module=module,
        attention=attention,
        out=out,
        ups=tuple(_there(family, module, family.ups)),
        down=down,
        heads=groups,
        group=width // groups,
        head_size=head_size,
        ffn=ffn,
    )


def _groups(family: Family, module: nn.Module, head_size: int) -> int:
    # The fewest rows of any projection: those of the keys, where several heads share them.
    rows = [_weight(one) for one in _there(family, module, family.projections)]
    axes = [_axis(one, 0) for one in _there(family, module, family.projections)]
    least = min(weight.shape[axis] for weight, axis in zip(rows, axes, strict=True))
    return int(least) // family.fused // head_size


def _there(family: Family, module: nn.Module, paths: Sequence[str]) -> list[nn.Module]:
    """The linear layers at some paths, without those that this model does not have."""
    found = []
    for path in paths:
        parent, _, name = path.rpartition(".")
        if path in family.optional and not hasattr(module.get_submodule(parent), name):
            continue
        found.append(module.get_submodule(path))
    return found


def _refuse_shared(model: nn.Module, rows: Sequence[Layer], family: Family) -> None:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for row in rows:
        projections = _there(family, row.module, family.projections)
        for part in (*projections, row.out, *row.ups, row.down):
            for parameter in part.parameters():
                shared = names.get(id(parameter), [])
                if len(shared) > 1:
                    raise PruneError(
                        f"{shared[0]} and {shared[1]} are one tied weight, and a cut of one would"
                        " change the other.",
                        hint="Untie them first (clone the weight), and save the model again.",
                    )


def _cut_heads(family: Family, layer: Layer, kept: Kept) -> None:
    for part in _there(family, layer.module, family.projections):
        rows = _weight(part).shape[_axis(part, 0)] // family.fused
        block = rows // layer.heads
        _cut(part, 0, _slices(kept, block, parts=family.fused, stride=rows))
    _cut(layer.out, 1, _slices(kept, layer.group))
    heads = len(kept) * layer.group // layer.head_size
    for name in family.counts:
        setattr(layer.attention, name, heads)
    for name in family.widths:
        setattr(layer.attention, name, heads * layer.head_size)
    if family.head_bias is not None:
        layer.attention.register_forward_pre_hook(HeadBias(family.head_bias, kept))
    if family.handed_bias is not None:
        HandedBias(family.handed_bias, kept).attach(layer.module, layer.attention)


def _cut_ffn(family: Family, layer: Layer, kept: Kept) -> None:
    for part in layer.ups:
        _cut(part, 0, _slices(kept, 1, parts=family.gated, stride=layer.ffn))
    _cut(layer.down, 1, _slices(kept, 1))


def stays_first(found: Layout) -> str | None:
    """Why the first layer of a model cannot be taken out; None where it can."""
    family = found.family
    if family.handed_bias is not None:
        return "makes the position bias of all others"
    if family.behind_first is not None and _optional(found.base, family.behind_first) is not None:
        return "has a convolution behind it"
    return None


def _keep_layers(model: nn.Module, found: Layout, kept: Kept) -> None:
    why = stays_first(found) if kept[0] != 0 else None
    if why is not None:
        raise PruneError(
            f"The first layer of this {found.family.name} model {why} and cannot be taken out.",
            hint="Keep layer 0.",
        )
    parent_path, _, name = found.family.layers.rpartition(".")
    parent = found.base.get_submodule(parent_path)
    left = [found.layers[place].module for place in kept]
    setattr(parent, name, nn.ModuleList(left))
    for place, layer in enumerate(left):
        for module in layer.modules():
            # A cache finds the keys and values of a layer by this number.
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = place  # type: ignore[assignment]
    # Of T5 those of the model and of the decoder say how many layers the decoder has.
    parts = (model if found.family.described else parent).modules()
    configs = {id(part.config): part.config for part in parts if hasattr(part, "config")}
    for config in configs.values():
        types = getattr(config, "layer_types", None)
        if types is not None:
            config.layer_types = [types[place] for place in kept]  # type: ignore[union-attr]
        config.num_hidden_layers = len(kept)  # type: ignore[union-attr]


def _optional(base: nn.Module, path: str) -> object:
    parent, _, name = path.rpartition(".")
    return getattr(base.get_submodule(parent), name, None)


def _slices(kept: Sequence[int], block: int, *, parts: int = 1, stride: int = 0) -> Tensor:
    """The rows of the kept blocks, in each of `parts` that lie `stride` rows apart."""
    rows = torch.tensor(kept)[:, None] * block + torch.arange(block)[None, :]
    starts = torch.arange(parts)[:, None] * stride
    return (starts + rows.reshape(1, -1)).reshape(-1)


def _axis(linear: nn.Module, side: int) -> int:
    # GPT-2's Conv1D is a linear layer whose weight lies the other way round.
    return 1 - side if isinstance(linear, Conv1D) else side


def _weight(linear: nn.Module) -> Tensor:
    return cast("Tensor", linear.weight)


def _cut(linear: nn.Module, side: int, kept: Tensor) -> None:
    """Keep some outputs (side 0) or inputs (side 1) of a linear layer, in place."""
    axis = _axis(linear, side)
    linear.weight = _kept_parameter(cast("nn.Parameter", linear.weight), axis, kept)
    if side == 0 and linear.bias is not None:
        linear.bias = _kept_parameter(cast("nn.Parameter", linear.bias), 0, kept)
    names = ("nf", "nx") if isinstance(linear, Conv1D) else ("out_features", "in_features")
    setattr(linear, names[side], len(kept))


def _kept_parameter(parameter: nn.Parameter, axis: int, kept: Tensor) -> nn.Parameter:
    chosen = parameter.detach().index_select(axis, kept.to(parameter.device)).contiguous()
    return nn.Parameter(chosen, requires_grad=parameter.requires_grad)
