"""What a head, a neuron or a layer costs: milliseconds on a target's engine, or parameters.

A latency table is measured on models of two layers, whose widths are cut in turn: how long a layer
takes follows from its own width alone, so that few models tell of all (as in ZipLM, Kurtic et al.
2023, arXiv 2302.04089, with whole models in the place of single layers, because an engine fuses
what lies side by side).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import nn

from edgekit.sources.pruned.plan import LayerPlan, Plan

if TYPE_CHECKING:
    from edgekit.sources.pruned.cutting import Layer

# Widths of which a table holds the time; between them it is interpolated.
_HEADS = (0.5, 0.17)
_FFN = (0.75, 0.5, 0.125)
_DEPTH = 2
# Engines compute in blocks of so many numbers: a width in between costs as much as the next.
_STEPS = ((512, 32), (64, 8))


class TimePlans(Protocol):
    """Times a model cut by several plans, interleaved: median milliseconds by their names."""

    def __call__(self, plans: Mapping[str, Plan | None]) -> Mapping[str, float]:
        """The milliseconds of each; None stands for the model that is not cut."""
        ...


class Costs(Protocol):
    """What a cut saves, in a unit of its own."""

    @property
    def whole(self) -> float:
        """What the model costs that is not cut."""
        ...

    def heads(self, place: int, kept: int) -> float:
        """What is saved where so many heads of a layer stay."""
        ...

    def ffn(self, place: int, kept: int) -> float:
        """What is saved where so many neurons of a layer stay."""
        ...

    def layer(self, place: int) -> float:
        """What is saved where a layer goes altogether."""
        ...


def saved(costs: Costs, plan: Plan) -> float:
    """What a plan saves."""
    kept = set(plan.kept_layers)
    return sum(
        costs.heads(place, row.heads_left) + costs.ffn(place, row.ffn_left)
        if place in kept
        else costs.layer(place)
        for place, row in enumerate(plan.layers)
    )


def step_of(width: int) -> int:
    """The multiple that the width of a feed-forward block stays, so that the engine's blocks fit"""
    return next((step for least, step in _STEPS if width >= least and width % step == 0), 1)


@dataclass(frozen=True)
class Point:
    """One width that was timed, and the milliseconds that a layer saves with it."""

    kind: str
    width: int
    saved_ms: float


@dataclass(frozen=True)
class LatencyTable:
    """The time of layers by their widths, in milliseconds at one workload on one engine.

    ``heads`` and ``ffn`` map a width to what one layer saves with it, both rising as widths fall.
    ``sizes`` are the heads and neurons of each layer before.
    """

    whole: float
    layer_ms: float
    heads_saved: Mapping[int, float]
    ffn_saved: Mapping[int, float]
    sizes: tuple[tuple[int, int], ...]

    def heads(self, place: int, kept: int) -> float:
        """See `Costs`."""
        return _between(self.heads_saved, self.sizes[place][0], kept)

    def ffn(self, place: int, kept: int) -> float:
        """See `Costs`."""
        return _between(self.ffn_saved, self.sizes[place][1], kept)

    def layer(self, place: int) -> float:
        """See `Costs`."""
        return self.layer_ms

    def predict(self, plan: Plan) -> float:
        """The milliseconds of a model cut by a plan; never less than a hundredth of the whole."""
        return max(self.whole - saved(self, plan), self.whole / 100)

    @property
    def points(self) -> tuple[Point, ...]:
        """What was measured, for a person."""
        found = [Point("layer", 0, self.layer_ms)]
        for kind, measured in (("heads", self.heads_saved), ("ffn", self.ffn_saved)):
            found += [Point(kind, width, measured[width]) for width in sorted(measured)]
        return tuple(found)


def measure_table(whole: Plan, structures: Sequence[str], time_all: TimePlans) -> LatencyTable:
    """Time models of two layers with the widths of each structure cut in turn, and the whole one.

    `whole` keeps everything; `time_all` is called once.
    """
    depth = min(_DEPTH, len(whole.layers))
    # The widest ones: of a model that was pruned before, layers differ.
    widest = sorted(
        range(len(whole.layers)), key=lambda at: (-whole.layers[at].ffn, -whole.layers[at].heads)
    )
    places = tuple(sorted(widest[:depth]))
    heads = min(whole.layers[place].heads for place in places)
    ffn = min(whole.layers[place].ffn for place in places)
    short = replace(whole, kept_layers=places)
    # A model of two layers is its own short one.
    asked_short = None if depth == len(whole.layers) else short
    asked: dict[str, Plan | None] = {"whole": None, "short": asked_short}
    head_widths: list[int] = []
    if "heads" in structures:
        head_widths = sorted({max(1, round(heads * share)) for share in _HEADS} - {heads})
        for width in head_widths:
            asked[f"heads/{width}"] = _narrowed(short, heads=width)
    ffn_widths: list[int] = []
    if "ffn" in structures:
        step = step_of(ffn)
        rounded = {max(step, round(ffn * share / step) * step) for share in _FFN}
        ffn_widths = sorted(rounded - {ffn})
        for width in ffn_widths:
            asked[f"ffn/{width}"] = _narrowed(short, ffn=width)
    if len(whole.layers) == depth and depth > 1:
        asked["one"] = replace(whole, kept_layers=places[:1])
    found = time_all(asked)
    if len(whole.layers) > depth:
        layer_ms = (found["whole"] - found["short"]) / (len(whole.layers) - depth)
    else:
        layer_ms = found["short"] - found["one"] if "one" in found else 0.0

    def told(kind: str, full: int, widths: Sequence[int]) -> dict[int, float]:
        measured = {width: (found["short"] - found[f"{kind}/{width}"]) / depth for width in widths}
        return _falling({full: 0.0, **measured})

    return LatencyTable(
        found["whole"],
        max(layer_ms, 0.0),
        told("heads", heads, head_widths),
        told("ffn", ffn, ffn_widths),
        tuple((row.heads, row.ffn) for row in whole.layers),
    )


def _narrowed(plan: Plan, *, heads: int | None = None, ffn: int | None = None) -> Plan:
    """The first so many heads and neurons of the layers that stay: which of them is no matter."""

    def narrow(row: LayerPlan) -> LayerPlan:
        return replace(
            row,
            kept_heads=None if heads is None else tuple(range(min(heads, row.heads))),
            kept_ffn=None if ffn is None else tuple(range(min(ffn, row.ffn))),
        )

    kept = set(plan.kept_layers)
    layers = tuple(narrow(row) if at in kept else row for at, row in enumerate(plan.layers))
    return replace(plan, layers=layers)


def _falling(measured: Mapping[int, float]) -> dict[int, float]:
    """The same with noise taken out: a narrower layer never saves less than a wider one."""
    found: dict[int, float] = {}
    highest = 0.0
    for width in sorted(measured, reverse=True):
        highest = max(highest, measured[width])
        found[width] = highest
    return found


def _between(measured: Mapping[int, float], full: int, kept: int) -> float:
    """What a layer of `full` saves at a width: between two that were timed, or along the last."""
    if kept >= full or len(measured) < 2:
        return 0.0
    widths = np.array(sorted(measured), dtype=np.float64)
    saved_ms = np.array([measured[int(width)] for width in widths])

    def at(width: int) -> float:
        if width < widths[0]:
            slope = (saved_ms[0] - saved_ms[1]) / (widths[1] - widths[0])
            return float(saved_ms[0] + slope * (widths[0] - width))
        return float(np.interp(width, widths, saved_ms))

    return at(kept) - at(full)


@dataclass(frozen=True)
class Parameters:
    """The parameters of each layer's heads and neurons, and of all of it."""

    per_head: tuple[float, ...]
    per_neuron: tuple[float, ...]
    per_layer: tuple[float, ...]
    sizes: tuple[tuple[int, int], ...]
    structures: tuple[str, ...]

    @property
    def whole(self) -> float:
        """The parameters of the structures that may be cut."""
        if "layers" in self.structures:
            return sum(self.per_layer)
        heads = sum(one * size[0] for one, size in zip(self.per_head, self.sizes, strict=True))
        ffn = sum(one * size[1] for one, size in zip(self.per_neuron, self.sizes, strict=True))
        return heads * ("heads" in self.structures) + ffn * ("ffn" in self.structures)

    def heads(self, place: int, kept: int) -> float:
        """See `Costs`."""
        return self.per_head[place] * (self.sizes[place][0] - kept)

    def ffn(self, place: int, kept: int) -> float:
        """See `Costs`."""
        return self.per_neuron[place] * (self.sizes[place][1] - kept)

    def layer(self, place: int) -> float:
        """See `Costs`."""
        return self.per_layer[place]


def count_parameters(layers: Sequence[Layer], structures: Sequence[str]) -> Parameters:
    """The parameters that a cut of each layer's structures takes away."""
    per_head, per_neuron, per_layer = [], [], []
    for row in layers:
        # Some families keep the output projection inside of the attention, some beside it.
        own = {
            id(one): one
            for root in (row.attention, row.out)
            for part in root.modules()
            # A table of biases stays whole: other layers read it.
            if not isinstance(part, nn.Embedding)
            for one in part.parameters(recurse=False)
        }
        bias = getattr(row.out, "bias", None)
        held = sum(one.numel() for one in own.values()) - (0 if bias is None else bias.numel())
        per_head.append(held / row.heads)
        ups = sum(one.numel() for part in row.ups for one in part.parameters())
        per_neuron.append((ups + row.down.weight.numel()) / row.ffn)  # type: ignore[operator]
        per_layer.append(float(sum(one.numel() for one in row.module.parameters())))
    return Parameters(
        tuple(per_head),
        tuple(per_neuron),
        tuple(per_layer),
        tuple((row.heads, row.ffn) for row in layers),
        tuple(structures),
    )
