"""What it costs to raise groups to a more exact level, and in which order it pays most.

A group has a ladder: int8 → weight-only 8 bits → 16 bits → 32. A move is a step on one of them. It
removes error and costs milliseconds and bytes; moves are taken by error removed per cost. A level
that costs more than its part of the error removed is left out of the ladder (what remains is the
convex hull), so that along the order each prefix is the best that its cost buys, nearly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgekit.quantization.recipes import LEVELS, Group, Level, Recipe

Goal = Literal["latency", "throughput", "size"]

_BITS: Mapping[Level, int] = {"weight-int8": 8, "float16": 16, "float32": 32}
# What a doubling of the size is worth, in doublings of the time: raising what costs no time at all,
# an embedding table, is not for nothing.
_SIZE_WEIGHT: Mapping[Goal, float] = {"latency": 0.1, "throughput": 0.1, "size": 10.0}
# A step costs at least so much of all that can be spent: nothing is divided by zero.
_LEAST_COST = 1e-9


@dataclass(frozen=True)
class Costs:
    """The latency table: milliseconds lost per group and level against the recipe's own scheme.

    ``lost_ms[level][group]``; a level that is missing is not on offer, and float32 always is. With
    an empty table groups cost time in proportion to their parameters, embeddings none, and every
    level in `offered` costs as much as float32. ``goal`` weighs time against size.
    """

    lost_ms: Mapping[Level, Mapping[str, float]]
    goal: Goal = "latency"
    offered: tuple[Level, ...] = ("float32",)

    def levels(self, recipe: Recipe) -> tuple[Level, ...]:
        """Those more exact than the recipe's scheme that are on offer, the least exact first."""
        known = {*(self.lost_ms or self.offered), "float32"}
        return tuple(level for level in levels_above(recipe) if level in known)

    def ladders(self, recipe: Recipe, groups: Sequence[Group]) -> dict[str, dict[Level, float]]:
        """The cost of each level of each group, 1 being all groups' time at float32."""
        time = {level: self._time(level, groups) for level in self.levels(recipe)}
        whole = math.fsum(time["float32"].values()) or 1.0
        added = {level: _BITS[level] - recipe.bits for level in time}
        weights = sum(group.parameters for group in groups) * added["float32"] or 1
        heavy = _SIZE_WEIGHT[self.goal]
        return {
            group.name: {
                level: time[level][group.name] / whole
                + heavy * group.parameters * added[level] / weights
                for level in time
            }
            for group in groups
        }

    def _time(self, level: Level, groups: Sequence[Group]) -> dict[str, float]:
        table = self.lost_ms.get(level)
        if table is None:
            table = self.lost_ms.get("float32") or {
                group.name: 0.0 if group.kind == "embedding" else float(group.parameters)
                for group in groups
            }
        # Raising may be measured as a gain of time: that is noise, or good luck not to count on.
        return {group.name: max(table.get(group.name, 0.0), 0.0) for group in groups}


#: Where nothing was measured.
NO_TABLE = Costs({})


@dataclass(frozen=True)
class Move:
    """A group raised one step, from what it was after the moves before; both figures are > 0."""

    group: str
    level: Level
    removes: float
    cost: float

    @property
    def pays(self) -> float:
        """The error that is removed per cost."""
        return self.removes / self.cost


def levels_above(recipe: Recipe) -> tuple[Level, ...]:
    """The levels more exact than a recipe's scheme, the least exact first."""
    first = {"weight-int8": 1, "float16": 2, "bfloat16": 2}.get(recipe.scheme, 0)
    return LEVELS[first:]


def order_moves(
    errors: Mapping[str, Mapping[Level | None, float]],
    ladders: Mapping[str, Mapping[Level, float]],
    groups: Sequence[Group],
) -> tuple[Move, ...]:
    """All moves that pay, those that pay most first; of those that pay alike the smaller group's.

    Groups of one size then keep the graph's order.

    Args:
        errors: by group the error that each level leaves, None being the recipe's scheme.
        ladders: by group the cost of each level, see `Costs.ladders`.
        groups: all that have errors, in the graph's order.
    """
    ranks = {group.name: (group.parameters, place) for place, group in enumerate(groups)}
    moves: list[Move] = []
    for group, left in errors.items():
        at, spent = left[None], 0.0
        for level in _hull(left, ladders[group]):
            cost = ladders[group][level]
            moves.append(Move(group, level, at - left[level], _step(cost, spent)))
            at, spent = left[level], max(spent, cost)
    # A stable sort: along a hull each step pays less than the one before, so that a group's moves
    # stay in their order. The last digits of a quotient of times are no reason to differ.
    return tuple(sorted(moves, key=lambda move: (-float(f"{move.pays:.9g}"), *ranks[move.group])))


def _hull(left: Mapping[Level | None, float], costs: Mapping[Level, float]) -> list[Level]:
    """The levels worth stopping at: each removes the most error per cost from the one before."""
    kept: list[Level] = []
    error, spent = left[None], 0.0
    rest = [level for level in LEVELS if level in costs]
    while rest:

        def pays(level: Level, error: float = error, spent: float = spent) -> float:
            return (error - left[level]) / _step(costs[level], spent)

        # Of two that pay alike, the more exact one.
        best = max(rest, key=lambda level: (pays(level), LEVELS.index(level)))
        if pays(best) <= 0:
            break
        kept.append(best)
        error, spent = left[best], max(spent, costs[best])
        rest = rest[rest.index(best) + 1 :]
    return kept


def _step(cost: float, spent: float) -> float:
    """What a step costs from where one is: next to nothing to a level that is no dearer."""
    return max(cost - spent, _LEAST_COST)


def raised(recipe: Recipe, moves: Sequence[Move]) -> Recipe:
    """The recipe after some moves; of two for one group the more exact level holds."""
    levels: dict[str, Level] = dict(recipe.levels)
    for move in moves:
        held = levels.get(move.group)
        if held is None or LEVELS.index(move.level) > LEVELS.index(held):
            levels[move.group] = move.level
    return replace(recipe, levels=levels)
