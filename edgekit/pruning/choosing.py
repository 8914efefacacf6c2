"""What to cut: the plan of least loss that saves as much as is wanted.

Every layer's heads and neurons may shrink to some widths, each with a loss (the importance of what
goes) and a saving. One width of each is chosen by dynamic programming over the saving, a knapsack
with one item of each group; which layers go altogether is tried from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.pruning.costs import Costs, saved, step_of
from edgekit.sources.pruned.plan import Kept, Plan, Structure

if TYPE_CHECKING:
    from edgekit.pruning.importance import Scores

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
# The saving that is wanted is divided into so many parts.
_PARTS = 2000
# A layer of which less is left had better go altogether.
_LEAST_FFN = 1 / 16
# Layers that may go: of more, nobody has recovered a model by distilling a few thousand steps.
_MOST_LAYERS = 0.5


@dataclass(frozen=True)
class _Option:
    kept: Kept | None
    saving: float
    loss: float


@dataclass(frozen=True)
class Found:
    """A plan with what it saves and the sum of the importance that it gives up.

    ``dropped`` counts the layers that go altogether.
    """

    plan: Plan
    saved: float
    loss: float
    dropped: int = 0


def choose(
    whole: Plan,
    scores: Scores,
    costs: Costs,
    needed: float,
    structures: Sequence[Structure],
    *,
    without: Sequence[int] = (),
) -> Found | None:
    """The plan of least loss that saves at least `needed`, without some layers.

    None where no cut of the structures saves as much.
    """
    gone = set(without)
    left = [place for place in range(len(whole.layers)) if place not in gone]
    rest = needed - sum(costs.layer(place) for place in gone)
    groups: list[tuple[int, Structure, list[_Option]]] = []
    for place in left:
        if "heads" in structures and scores.heads[place] is not None:
            groups.append((place, "heads", _head_options(whole, scores, costs, place)))
        if "ffn" in structures and scores.ffn[place] is not None:
            groups.append((place, "ffn", _ffn_options(whole, scores, costs, place)))
    picked = _least_loss([options for _, _, options in groups], rest)
    if picked is None:
        return None
    layers = list(whole.layers)
    loss = 0.0
    for (place, kind, _), option in zip(groups, picked, strict=True):
        loss += option.loss
        if option.kept is None:
            continue
        if kind == "heads":
            layers[place] = replace(layers[place], kept_heads=option.kept)
        else:
            layers[place] = replace(layers[place], kept_ffn=option.kept)
    plan = replace(
        whole,
        layers=tuple(layers),
        kept_layers=tuple(left),
        structures=_used(layers, left, len(gone)),
        method=scores.method,
    )
    return Found(plan, saved(costs, plan), loss, len(gone))


def droppable(
    whole: Plan, scores: Scores, costs: Costs, needed: float, structures: Sequence[Structure]
) -> list[tuple[int, ...]]:
    """Sets of layers to try without, from none to as many as save what is wanted by themselves.

    The layers that change the least go first.
    """
    if "layers" not in structures or scores.layers is None:
        return [()]
    order = [int(place) for place in np.argsort(scores.layers, kind="stable")]
    most = max(int(len(order) * _MOST_LAYERS), min(1, len(order) - 1))
    found: list[tuple[int, ...]] = [()]
    for count in range(1, most + 1):
        taken = tuple(sorted(order[:count]))
        found.append(taken)
        if sum(costs.layer(place) for place in taken) >= needed:
            break
    return found


def largest_saving(
    whole: Plan, scores: Scores, costs: Costs, structures: Sequence[Structure]
) -> float:
    """What the deepest cut that is allowed saves."""
    best = 0.0
    for taken in droppable(whole, scores, costs, float("inf"), structures):
        total = sum(costs.layer(place) for place in taken)
        for place in range(len(whole.layers)):
            if place in taken:
                continue
            if "heads" in structures and scores.heads[place] is not None:
                options = _head_options(whole, scores, costs, place)
                total += max(one.saving for one in options)
            if "ffn" in structures and scores.ffn[place] is not None:
                options = _ffn_options(whole, scores, costs, place)
                total += max(one.saving for one in options)
        best = max(best, total)
    return best


def _used(layers: Sequence[object], left: Sequence[int], gone: int) -> tuple[Structure, ...]:
    used: list[Structure] = []
    if any(getattr(layers[place], "kept_heads", None) is not None for place in left):
        used.append("heads")
    if any(getattr(layers[place], "kept_ffn", None) is not None for place in left):
        used.append("ffn")
    if gone:
        used.append("layers")
    return tuple(used)


def _head_options(whole: Plan, scores: Scores, costs: Costs, place: int) -> list[_Option]:
    values, size = _values(scores.heads[place]), whole.layers[place].heads
    return [
        _Option(None, 0.0, 0.0),
        *(_option(values, count, costs.heads(place, count)) for count in range(size - 1, 0, -1)),
    ]


def _ffn_options(whole: Plan, scores: Scores, costs: Costs, place: int) -> list[_Option]:
    values, size = _values(scores.ffn[place]), whole.layers[place].ffn
    step = step_of(size)
    least = max(step, int(size * _LEAST_FFN) // step * step)
    return [
        _Option(None, 0.0, 0.0),
        *(
            _option(values, count, costs.ffn(place, count))
            for count in range(size - step, least - 1, -step)
        ),
    ]


def _values(scores: object) -> Floats:
    return np.asarray(scores, dtype=np.float64)


def _option(values: Floats, count: int, saving: float) -> _Option:
    order = np.argsort(values, kind="stable")
    going, staying = order[: len(order) - count], np.sort(order[len(order) - count :])
    kept = tuple(int(place) for place in staying)
    return _Option(kept, saving, float(values[going].sum()))


def _least_loss(groups: Sequence[Sequence[_Option]], needed: float) -> list[_Option] | None:
    """One option of each group: the least loss that saves what is needed; None where none does."""
    if needed <= 0:
        return [options[0] for options in groups]
    # best[i]: the least loss of saving i parts; the last one holds all that saves more, too.
    best = np.full(_PARTS + 1, np.inf)
    best[0] = 0.0
    history: list[tuple[Places, Places]] = []
    for options in groups:
        after = np.full(_PARTS + 1, np.inf)
        picked, came = np.zeros((2, _PARTS + 1), dtype=np.intp)
        for number, option in enumerate(options):
            # Rounded down: what is promised is saved.
            step = min(_PARTS, max(0, int(option.saving / needed * _PARTS + 1e-9)))
            before = np.arange(_PARTS + 1) - step
            before[-1] += int(best[_PARTS - step :].argmin())
            loss = np.where(before < 0, np.inf, best[before]) + option.loss
            better = loss < after
            after[better], picked[better], came[better] = loss[better], number, before[better]
        history.append((picked, came))
        best = after
    if not np.isfinite(best[-1]):
        return None
    chosen: list[_Option] = []
    at = _PARTS
    for options, (picked, came) in zip(reversed(groups), reversed(history), strict=True):
        chosen.append(options[picked[at]])
        at = int(came[at])
    return chosen[::-1]
