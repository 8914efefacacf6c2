"""Which channels of a convolutional network go: a plan from its dependency graph.

torch-pruning's graph (Fang et al. 2023, arXiv 2301.12900) says which slices of which weights belong
to one channel, through residual sums, concatenations and depthwise convolutions; nothing else of
that package is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
from edgekit.pruning.importance import sample_loss, usable_labels
from edgekit.pruning.proving import READERS, check_cut
from edgekit.pruning.structures import inner_model
from edgekit.sources.pruned.plan import Plan, TensorPlan

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

Floats = NDArray[np.float64]
# Engines compute channels in blocks of eight numbers and more.
STEP = 8
# Methods of importance that channels have.
CHANNEL_METHODS = ("fisher", "taylor", "magnitude")


@dataclass(frozen=True, eq=False)
class _Group:
    """Slices that go together: for each module and side the places of all channels."""

    root: nn.Module
    prune: Any
    size: int
    scored: tuple[tuple[nn.Module, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class RatedChannels:
    """A network whose channels are rated: what goes at any share of them.

    ``method`` is what rated them. ``steps`` are the shares of channels, rising, at which the width
    of a group changes.
    """

    source: LoadedSource
    method: str
    steps: tuple[float, ...]
    _graph: Any
    _groups: tuple[_Group, ...]
    _ratings: tuple[Floats, ...]

    def plan(self, share: float) -> Plan | None:
        """A plan without the least important `share` of the channels of every group, proved right.

        Widths stay multiples of 8, and outputs as they are. None where a share is too small to take
        any. Raises PruneError for a network that would answer otherwise than without them.
        """
        plan = self.draft(share)
        if plan is not None:
            check_cut(self.source, plan)
        return plan

    def draft(self, share: float) -> Plan | None:
        """The plan of a share before it is proved."""
        gone: dict[tuple[nn.Module | nn.Parameter, int], set[int]] = {}
        for group, rating in zip(self._groups, self._ratings, strict=True):
            left = _left(group.size, share)
            if left >= group.size:
                continue
            least = sorted(np.argsort(rating, kind="stable")[: group.size - left].tolist())
            _collect(self._graph.get_pruning_group(group.root, group.prune, idxs=least), gone)
        if not gone:
            return None
        source, model = self.source, inner_model(self.source)
        names = {part: name for name, part in model.named_modules()}
        base = Origin(source.id, source.sha256)
        return Plan(
            origin=source.origin or base,
            base=base,
            family=str(getattr(source.config, "model_type", type(model).__name__)),
            task=source.task,
            tensors=tuple(_tensor_plans(model, names, gone)),
            structures=("channels",),
            method=self.method,
        )

    def saved(self, plan: Plan) -> float:
        """The share of the network's parameters that a plan takes away."""
        left: dict[str, float] = {}
        for row in plan.tensors:
            left[row.name] = left.get(row.name, 1.0) * len(row.kept) / row.size
        sizes = {name: one.numel() for name, one in inner_model(self.source).named_parameters()}
        kept = sum(size * left.get(name, 1.0) for name, size in sizes.items())
        return 1 - kept / max(sum(sizes.values()), 1)


def channel_plan(
    source: LoadedSource,
    share: float,
    given: Sequence[Batch] | None = None,
    method: str = "auto",
    *,
    seed: int = 0,
) -> Plan:
    """A plan without the least important `share` of the channels of every group.

    See `rate_channels`.

    Raises:
        ConfigError: a share that is none, an unknown method, or one that needs data.
        PruneError: the network's dependencies cannot be followed, or nothing can go.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f"The share of channels to cut lies between 0 and 1, got {share:g}.",
            hint="Pass for example 0.3.",
        )
    rated = rate_channels(source, given, method, seed=seed)
    plan = rated.plan(share)
    if plan is None:
        raise PruneError(
            f"No channels can go from {source.id} at a share of {share:g}: widths stay multiples"
            f" of {STEP}, and the first go at {rated.steps[0]:.3g}.",
            hint=f"Cut {rated.steps[0]:.3g} or more.",
        )
    return plan


def rate_channels(
    source: LoadedSource,
    given: Sequence[Batch] | None = None,
    method: str = "auto",
    *,
    seed: int = 0,
) -> RatedChannels:
    """Rate the channels of a network, once for plans of any share.

    ``auto`` is ``fisher`` with data and ``magnitude`` without. Channels have no ``activations``.

    Raises:
        ConfigError: an unknown method, or one that needs data.
        PruneError: the network's dependencies cannot be followed, or none of its channels can go.
    """
    if method not in ("auto", *CHANNEL_METHODS):
        raise ConfigError(
            f"Channels are not rated by {method}.",
            hint=f"Choose auto or {', '.join(CHANNEL_METHODS)} (--method).",
        )
    if method in ("fisher", "taylor") and not given:
        raise ConfigError(
            f"The importance {method} needs data, got none.",
            hint="Pass --data DATA, or --method magnitude.",
        )
    chosen = ("fisher" if given else "magnitude") if method == "auto" else method
    graph, groups = _groups(source)
    steps = {
        1 - STEP * blocks / group.size
        for group in groups
        for blocks in range(1, math.ceil(group.size / STEP))
    }
    if not steps:
        raise PruneError(
            f"No channels can go from {source.id}: no group of them is wider than {STEP} and can be"
            " followed to where it is read.",
            hint="Quantize it instead.",
        )
    if chosen == "magnitude":
        masked = {part: _norms(part) for group in groups for part, _ in group.scored}
    else:
        masked = _mask_gradients(source, given or (), groups, seed, squared=chosen == "fisher")
    ratings = []
    for group in groups:
        total = np.zeros(group.size)
        for part, places in group.scored:
            total += masked[part][list(places)]
        ratings.append(total)
    return RatedChannels(source, chosen, tuple(sorted(steps)), graph, tuple(groups), tuple(ratings))


def _left(size: int, share: float) -> int:
    """How many channels of a group stay at a share, in whole blocks."""
    return max(STEP, math.ceil(size * (1 - share) / STEP - 1e-9) * STEP)


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
        found = list(graph.get_all_groups(root_module_types=list(READERS)))
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
        if isinstance(part, nn.GroupNorm) and part.num_groups > 1:
            # Other channels would share a mean than did before.
            return None
        if isinstance(part, READERS) and "in_channels" in item.dep.handler.__name__:
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
    known = (*READERS, _BatchNorm)
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

    Every sample has masks of its own: the squares of its gradients are averaged, not the square of
    an average.
    """
    parts = list(dict.fromkeys(part for group in groups for part, _ in group.scored))
    totals = {part: np.zeros(_out(part)) for part in parts}
    held: list[tuple[nn.Module, Tensor]] = []
    generator = torch.Generator().manual_seed(seed)

    def multiply(part: nn.Module, args: object, output: Tensor) -> Tensor:
        mask = torch.ones(len(output), _out(part), requires_grad=True)
        held.append((part, mask))
        between = [1] * (output.dim() - 2)
        last = isinstance(part, nn.Linear)
        shape = (len(mask), *between, _out(part)) if last else (*mask.shape, *between)
        return output * mask.reshape(shape)

    handles = [part.register_forward_hook(multiply) for part in parts]
    samples = 0
    try:
        with torch.enable_grad():
            for batch in given:
                held.clear()
                outputs = source.module(**batch.inputs)
                labelled = usable_labels(source, batch)
                loss = sample_loss(source, outputs, batch, labelled, generator)
                masks = [mask for _, mask in held]
                grown = torch.autograd.grad(loss, masks, allow_unused=True)
                each: dict[nn.Module, Tensor] = {}
                for (part, _), gradient in zip(held, grown, strict=True):
                    if gradient is None:
                        continue
                    # A module may run several times, or on several pieces of a sample.
                    rows = len(batch) if len(gradient) % len(batch) == 0 else len(gradient)
                    mine = gradient.double().reshape(rows, -1, gradient.shape[1]).sum(1)
                    before = each.get(part)
                    alike = before is not None and before.shape == mine.shape
                    each[part] = before + mine if before is not None and alike else mine
                for part, mine in each.items():
                    totals[part] += (mine.square() / 2 if squared else mine.abs()).sum(0).numpy()
                samples += len(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {part: total / max(samples, 1) for part, total in totals.items()}


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
        norm = not isinstance(part, (*READERS, nn.Parameter))
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
