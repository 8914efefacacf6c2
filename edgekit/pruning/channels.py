"""Which channels of a convolutional network go: a plan from its dependency graph.

torch-pruning's graph (Fang et al. 2023, arXiv 2301.12900) says which slices of which weights belong
to one channel, through residual sums, concatenations and depthwise convolutions; nothing else of
that package is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgekit.core.errors import ConfigError, PruneError
from edgekit.core.lazy import require_installed
from edgekit.core.manifest import Origin
from edgekit.pruning.feeding import Batch
from edgekit.pruning.importance import METHODS, sample_loss, usable_labels
from edgekit.pruning.structures import cut, inner_model
from edgekit.sources.pruned.plan import Plan, TensorPlan

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

Floats = NDArray[np.float64]
# Engines compute channels in blocks of eight numbers and more.
STEP = 8
# Of the largest answer: float32 sums in another order.
_GAP = 1e-4
_NO_WAY = "Its forward counts or mixes channels by itself: quantize it instead."
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True, eq=False)
class _Group:
    """Slices that go together: for each module and side the places of all channels."""

    root: nn.Module
    prune: Any
    size: int
    scored: tuple[tuple[nn.Module, tuple[int, ...]], ...]


def channel_plan(
    source: LoadedSource,
    share: float,
    given: Sequence[Batch] | None = None,
    method: str = "auto",
    *,
    seed: int = 0,
) -> Plan:
    """A plan without the least important `share` of the channels of every group.

    Widths stay multiples of 8, and outputs as they are. ``auto`` is ``fisher`` with data and
    ``magnitude`` without; ``activations`` is ``magnitude`` here.

    Raises:
        ConfigError: a share that is none, an unknown method, or one that needs data.
        PruneError: the network's dependencies cannot be followed, or nothing can go.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f"The share of channels to cut lies between 0 and 1, got {share:g}.",
            hint="Pass for example 0.3.",
        )
    if method not in ("auto", *METHODS):
        raise ConfigError(
            f"There is no importance {method!r}.", hint=f"Choose auto or {', '.join(METHODS)}."
        )
    if method in ("fisher", "taylor") and not given:
        raise ConfigError(
            f"The importance {method} needs data, got none.",
            hint="Pass --data DATA, or --importance magnitude.",
        )
    gradients = bool(given) and method in ("auto", "fisher", "taylor")
    model = inner_model(source)
    graph, groups = _groups(source)
    names = {part: name for name, part in model.named_modules()}
    if gradients:
        masked = _mask_gradients(source, given or (), groups, seed, squared=method != "taylor")
    else:
        masked = {part: _norms(part) for group in groups for part, _ in group.scored}
    gone: dict[tuple[nn.Module | nn.Parameter, int], set[int]] = {}
    for group in groups:
        left = max(STEP, math.ceil(group.size * (1 - share) / STEP) * STEP)
        if left >= group.size:
            continue
        total = np.zeros(group.size)
        for part, places in group.scored:
            total += masked[part][list(places)]
        least = sorted(np.argsort(total, kind="stable")[: group.size - left].tolist())
        _collect(graph.get_pruning_group(group.root, group.prune, idxs=least), gone)
    if not gone:
        raise PruneError(
            f"No channels can go from {source.id} at a share of {share:g}: its"
            f" {len(groups)} groups of channels are {STEP} wide, or would stay as they are.",
            hint="Cut more, or quantize it instead.",
        )
    base = Origin(source.id, source.sha256)
    plan = Plan(
        origin=source.origin or base,
        base=base,
        family=str(getattr(source.config, "model_type", type(model).__name__)),
        task=source.task,
        tensors=tuple(_tensor_plans(model, names, gone)),
        structures=("channels",),
        method="fisher" if gradients and method == "auto" else method if gradients else "magnitude",
    )
    _check(source, plan)
    return plan


def _groups(source: LoadedSource) -> tuple[Any, list[_Group]]:
    """The dependency graph of a model, and the groups of channels that may shrink."""
    require_installed(("torch_pruning",), "build")
    import torch_pruning

    model = inner_model(source)
    wanted = {name: one.requires_grad for name, one in model.named_parameters()}
    graph = torch_pruning.DependencyGraph()
    # The graph is read from autograd's.
    model.requires_grad_(True)
    try:
        graph.build_dependency(
            model,
            example_inputs=dict(source.sample_inputs),
            forward_fn=lambda whole, inputs: whole(**inputs),
            output_transform=_tensors,
            verbose=False,
        )
        found = list(graph.get_all_groups(root_module_types=list(_LAYERS)))
    except Exception as error:
        raise PruneError(
            f"The channels of {source.id} cannot be followed through its layers:"
            f" {type(error).__name__}: {error}.",
            hint="Quantize it instead.",
        ) from error
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = None
    groups = []
    for group in found:
        made = _group(group)
        if made is not None:
            groups.append(made)
    return graph, groups


def _tensors(outputs: object) -> object:
    if isinstance(outputs, Mapping):
        return [one for one in outputs.values() if isinstance(one, Tensor)]
    return outputs


def _group(group: Any) -> _Group | None:
    root, size = group[0].dep.target.module, len(group[0].idxs)
    scored: list[tuple[nn.Module, tuple[int, ...]]] = []
    read = False
    for item in group:
        part = item.dep.target.module
        if isinstance(part, _ConvNd) and 1 < part.groups < part.in_channels:
            # The groups of a convolution would have to stay of one size.
            return None
        if isinstance(part, _LAYERS) and "in_channels" in item.dep.handler.__name__:
            read = True
        elif _scorable(part) and len(item.idxs) == size:
            scored.append((part, tuple(int(place) for place in item.idxs)))
    # torch-pruning 1.6 loses the place of a channel in some concatenations.
    if any(max(places) >= _out(part) for part, places in scored):
        return None
    # What nothing reads is an output, and stays.
    if not read or not scored or size <= STEP:
        return None
    return _Group(root, group[0].dep.handler, size, tuple(dict(scored).items()))


def _scorable(part: object) -> bool:
    known = (*_LAYERS, _BatchNorm)
    return isinstance(part, known) and getattr(part, "weight", None) is not None


def _mask_gradients(
    source: LoadedSource,
    given: Sequence[Batch],
    groups: Sequence[_Group],
    seed: int,
    *,
    squared: bool,
) -> dict[nn.Module, Floats]:
    """For each module the gradients of masks on its output channels, as in `importance`.

    The gradient of a mask is the sum over a channel's weights of weight times gradient.
    """
    parts = list(dict.fromkeys(part for group in groups for part, _ in group.scored))
    totals = {part: np.zeros(_out(part)) for part in parts}
    weights = [one for part in parts for one in _own(part)]
    generator = torch.Generator().manual_seed(seed)
    before = [one.requires_grad for one in weights]
    try:
        for one in weights:
            one.requires_grad_(True)
        with torch.enable_grad():
            for batch in given:
                outputs = source.module(**batch.inputs)
                labelled = usable_labels(source, batch)
                loss = sample_loss(source, outputs, batch, labelled, generator) / len(batch)
                grown = iter(torch.autograd.grad(loss, weights, allow_unused=True))
                for part in parts:
                    mask = torch.zeros(_out(part), dtype=torch.float64)
                    for one in _own(part):
                        gradient = next(grown)
                        if gradient is not None:
                            mask += _by_channel(part, (one * gradient).detach().double())
                    totals[part] += (mask.square() / 2 if squared else mask.abs()).numpy()
    finally:
        for one, wanted in zip(weights, before, strict=True):
            one.requires_grad_(wanted)
    return {part: total / len(given) for part, total in totals.items()}


def _own(part: nn.Module) -> list[Tensor]:
    return [one for one in (part.weight, part.bias) if isinstance(one, Tensor)]


def _weight_of(part: nn.Module) -> Tensor:
    return cast("Tensor", part.weight)


def _out(part: nn.Module) -> int:
    weight = cast("Tensor", part.weight)
    return int(weight.shape[1] if getattr(part, "transposed", False) else weight.shape[0])


def _by_channel(part: nn.Module, value: Tensor) -> Tensor:
    if value.dim() > 1 and getattr(part, "transposed", False):
        value = value.transpose(0, 1)
    return value.reshape(len(value), -1).sum(1)


def _norms(part: nn.Module) -> Floats:
    """Squared norms of the channels, as shares, so that modules of a group weigh alike."""
    weight = cast("Tensor", part.weight).detach().double().square()
    norms = _by_channel(part, weight)
    return cast("Floats", (norms / norms.sum().clamp(min=1e-30)).numpy())


def _collect(
    group: Iterable[Any], gone: dict[tuple[nn.Module | nn.Parameter, int], set[int]]
) -> None:
    """Note what a group takes from each module: of its outputs (0) or of its inputs (1)."""
    for item in group:
        part = item.dep.target.module
        if not isinstance(part, nn.Parameter) and not any(True for _ in part.parameters()):
            continue
        side = 1 if "in_channels" in item.dep.handler.__name__ else 0
        depthwise = isinstance(part, _ConvNd) and part.groups == part.out_channels > 1
        norm = not isinstance(part, (*_LAYERS, nn.Parameter))
        if depthwise or norm or isinstance(part, nn.Parameter):
            # One channel, in and out.
            side = 0
        gone.setdefault((part, side), set()).update(int(place) for place in item.idxs)


def _tensor_plans(
    model: nn.Module,
    names: Mapping[nn.Module, str],
    gone: Mapping[tuple[nn.Module | nn.Parameter, int], set[int]],
) -> list[TensorPlan]:
    rows: dict[tuple[str, int], TensorPlan] = {}
    own = {id(one): name for name, one in model.named_parameters()}
    for (part, side), places in gone.items():
        if isinstance(part, nn.Parameter):
            widest = max(range(part.dim()), key=lambda axis: part.shape[axis])
            found: list[tuple[str, Tensor, int]] = [(own[id(part)], part, widest)]
        else:
            found = [
                (f"{names[part]}.{name}".removeprefix("."), tensor, axis)
                for name, tensor, axis in _sliced(part, side)
            ]
        for name, tensor, axis in found:
            size = tensor.shape[axis]
            kept = tuple(place for place in range(size) if place not in places)
            rows[name, axis] = TensorPlan(name, axis, size, kept)
    return [rows[key] for key in sorted(rows)]


def _sliced(part: nn.Module, side: int) -> list[tuple[str, Tensor, int]]:
    """The tensors of a module that have a slice per channel, and along which axis."""
    found: list[tuple[str, Tensor, int]] = []
    held = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
    for name, tensor in held:
        if tensor.dim() == 0:
            continue
        if tensor.dim() == 1:
            if side == 0:
                found.append((name, tensor, 0))
            continue
        found.append((name, tensor, side ^ int(getattr(part, "transposed", False))))
    return found


def _check(source: LoadedSource, plan: Plan) -> None:
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
        if gap > allowed and not _normalized(source, plan):
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
        reads = isinstance(part, _LAYERS) and name == "weight" and row.axis == 1
        if reads:
            mask = torch.zeros(row.size)
            mask[list(row.kept)] = 1
            shape = (
                (-1,) if isinstance(part, nn.Linear) else (-1, *[1] * (_weight_of(part).dim() - 2))
            )
            handles.append(part.register_forward_pre_hook(_zero(mask.reshape(shape))))
    try:
        return dict(source.module(**source.sample_inputs))
    finally:
        for handle in handles:
            handle.remove()


def _zero(mask: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda module, args: (args[0] * mask, *args[1:])


def _normalized(source: LoadedSource, plan: Plan) -> bool:
    """Whether a norm over channels is cut, whose statistics are others without them."""
    model = inner_model(source)
    parts = [model.get_submodule(row.name.rpartition(".")[0]) for row in plan.tensors]
    return any(hasattr(one, "normalized_shape") or isinstance(one, nn.GroupNorm) for one in parts)
