"""The search for the cheapest recipe within an accuracy budget.

It starts with everything quantized. Over the budget it first switches algorithms, by the error of
the outputs, then raises groups to more exact levels in the order of what that pays: which groups,
and how many, follow from the errors of single groups, which add up (see `sensitivity`), and a
bisection verifies how many are needed with about log2 of all moves full evaluations. At last it
tries to lower again what the bisection raised without need.

A search does the same whenever its measures are the same. All but one follow from the seed: the
latency table is of a clock, and is rounded so that noise seldom changes what is chosen (see
`latency_table`).

The rows of a search decide nothing for good: the winner is judged once more, on rows that no choice
has seen. What counts here is therefore the chance of passing there (see `chances`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from edgekit.core.errors import QuantizeError, SessionError
from edgekit.core.measurements import Tried
from edgekit.evaluation.statistics import Budget, Drop
from edgekit.quantization.chances import chance, shrunk
from edgekit.quantization.moves import NO_TABLE, Costs, Move, order_moves, raised
from edgekit.quantization.recipes import Group, Level, Recipe
from edgekit.quantization.sensitivity import (
    Sensitivity,
    alone,
    give_up,
    measured,
    rank_groups,
)
from edgekit.quantization.switches import changes, is_better, kinds_of
from edgekit.quantization.trials import Attempt, Measured, Trial, describe

# Full evaluations of one search.
MOST = 12
# A candidate is good enough when it passes the verdict with this probability.
CONFIDENT = 0.8
# The least of many that seem enough is the luckiest of them: of those the chance of a miss must be
# smaller by so much (Bonferroni, for the few trials of a bisection that are near the edge).
_SELECTED = 4
# What is left when nothing is good enough: a candidate that will sooner pass than not.
_LIKELY = 0.5
# Below this chance even the float graph is not worth a search.
HOPELESS = 0.05
# Full evaluations that lowering may take.
_LOWERINGS = 2
# The error of a raised level is measured for so many groups, those with the largest errors.
_HEAVY = 4


class _Spent(Exception):
    """All full evaluations are used up."""


class Search:
    """One search, from one recipe. What it has found is at hand at any time, also after Ctrl-C.

    ``best`` is the cheapest attempt that is good enough, None so far; ``attempts`` all that was
    tried, in order; ``evaluations`` counts the full ones; ``sensitivity`` is the ranking, where one
    was needed.

    Args:
        costs: the latency table, or what measures it: called only when groups have to be raised,
            once, with the recipe that they are raised in.
        verdict_samples: of the rows that the winner will be judged on.
        floor: the drop of the graph in floating point on the search rows: a budget that not even
            that has a chance to meet is not searched for.
        samples: whether there are any to calibrate with.
        confident: the chance of passing the verdict that is good enough.
        supports: tells of a recipe whether the engine can do it; switches that it cannot are not
            tried. See `recipes.Prepared.supports`.
    """

    def __init__(
        self,
        trial: Trial,
        groups: Sequence[Group],
        budget: Budget,
        *,
        costs: Costs | Callable[[Recipe], Costs] = NO_TABLE,
        verdict_samples: int | None = None,
        floor: Drop | None = None,
        samples: bool = True,
        most: int = MOST,
        confident: float = CONFIDENT,
        supports: Callable[[Recipe], bool] = lambda recipe: True,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.best: Attempt | None = None
        self.attempts: list[Attempt] = []
        self.evaluations = 0
        self.sensitivity: Sensitivity | None = None
        self._trial = trial
        self._groups = tuple(groups)
        self._budget = budget
        self._costs_of = costs if callable(costs) else lambda recipe: costs
        self._verdict_samples = verdict_samples
        self._floor = floor
        self._samples = samples
        self._most = most
        self._confident = confident
        self._supports = supports
        self._selected = 1 - (1 - confident) / _SELECTED
        self._progress = progress

    @property
    def closest(self) -> Attempt | None:
        """The best, or else the attempt with the largest chance, of several the least drop."""
        tried = [
            (one.chance, -one.measured.drop.value, -place, one)
            for place, one in enumerate(self.attempts)
            if one.measured is not None
            and one.measured.problem is None
            and math.isfinite(one.measured.drop.value)
        ]
        return self.best or (max(tried, key=lambda one: one[:3])[3] if tried else None)

    def impossible(self) -> str | None:
        """Why no candidate can be proved within the budget, None where one may be."""
        if self._floor is None or self._chance(self._floor) >= HOPELESS:
            return None
        rows = self._verdict_samples or self._floor.samples
        return (
            f"not even the graph in floating point can be proved within {self._budget} on"
            f" {rows:,} rows"
        )

    def run(self, recipe: Recipe) -> Attempt | None:
        """The cheapest attempt that is good enough, or else the likeliest of those that may be.

        None where no attempt is likelier to pass than not.
        """
        if self.impossible() is not None:
            return None
        try:
            if self._accepts(recipe, "everything quantized"):
                return self.best
            switched = self._switch(recipe)
            if switched != recipe and self._accepts(switched, "the best algorithms"):
                return self.best
            self._raise(switched)
        except _Spent:
            self._progress(f"All {self._most} evaluations are used up")
        if self.best is None:
            closest = self.closest
            self.best = closest if closest is not None and closest.chance >= _LIKELY else None
        return self.best

    def told(self, refused: str | None = None) -> tuple[Tried, ...]:
        """All attempts as a result tells them; the best is taken, unless `refused` for a reason."""
        return tuple(
            replace(one.told(taken=False), reason=refused)
            if one is self.best and refused is not None
            else one.told(taken=one is self.best)
            for one in self.attempts
        )

    def _accepts(
        self, recipe: Recipe, why: str, moves: Sequence[Move] = (), total: float | None = None
    ) -> bool:
        """Evaluate a recipe in full, with the `moves` made. Raises _Spent when none is left."""
        if self.evaluations >= self._most:
            raise _Spent
        self.evaluations += 1
        name = describe(recipe)
        self._progress(f"Evaluation {self.evaluations} of at most {self._most}: {name} ({why})")
        predicted = None if total is None else _foretold(total, moves)
        cost = math.fsum(move.cost for move in moves)
        try:
            found = self._trial.evaluate(recipe)
        except (QuantizeError, SessionError) as refused:
            give_up(refused)
            reason = refused.message.rstrip(".")
            return self._note(Attempt(recipe, name, False, reason, predicted=predicted, cost=cost))
        likely = 0.0 if found.problem is not None else self._chance(found.drop)
        wanted = self._confident if total is None else self._selected
        accepted = likely >= wanted
        return self._note(
            Attempt(
                recipe,
                name,
                accepted,
                self._reason(found, likely, wanted),
                measured=found,
                chance=likely,
                predicted=predicted,
                cost=cost,
            )
        )

    def _note(self, attempt: Attempt) -> bool:
        self.attempts.append(attempt)
        if attempt.accepted and (self.best is None or attempt.cost < self.best.cost):
            self.best = attempt
        best = "none yet" if self.best is None else self.best.name
        self._progress(f"{attempt.name}: {attempt.reason}; best within the budget: {best}")
        return attempt.accepted

    def _reason(self, found: Measured, likely: float, wanted: float) -> str:
        if found.problem is not None:
            return found.problem.rstrip(".")
        if not math.isfinite(found.drop.value):
            return "the metric is no number"
        size = f"{found.bytes / 1e6:.1f} MB"
        drop = f"a drop of {_drop(found.drop, self._budget)}"
        # 94.7 % of 95 % is not enough, and is not to be told as 95 %.
        likely, enough = math.floor(likely * 100), f"{wanted * 100:.3g}"
        sure = f"{likely}% likely to pass ({enough}% is enough)"
        return f"{drop} on {found.drop.samples:,} rows, {sure}, {size}"

    def _chance(self, drop: Drop) -> float:
        return chance(drop, self._budget, self._verdict_samples)

    def _switch(self, recipe: Recipe) -> Recipe:
        """The recipe with those algorithms that leave the least error, each kind by itself."""
        kinds = [
            kind
            for kind in kinds_of(recipe, samples=self._samples)
            if any(changes(recipe, kind, self._supports))
        ]
        if not kinds:
            return recipe
        best = self._error(recipe, "to compare algorithms with")
        for kind in kinds:
            base = recipe
            for changed in changes(base, kind, self._supports):
                error = self._error(changed, "another algorithm")
                if is_better(error, best):
                    best, recipe = error, changed
        return recipe

    def _error(self, recipe: Recipe, why: str) -> float:
        name = describe(recipe)
        self._progress(f"Measuring the error of {name} ({why})")
        error, refused = measured(self._trial.error, recipe)
        reason = refused or f"compared by its outputs alone: {self._trial.measure} {error:.3g}"
        self.attempts.append(Attempt(recipe, name, False, reason, error=error))
        return error

    def _raise(self, recipe: Recipe) -> None:
        """Raise as few moves as are enough, then lower what was raised without need."""
        if recipe.scheme == "bfloat16":
            # One option of the engine, for the whole graph.
            return
        known = [one.error for one in self.attempts if one.recipe == recipe]
        self.sensitivity = rank_groups(
            self._groups,
            recipe,
            self._trial.error,
            self._trial.measure,
            verified=next((error for error in known if error is not None), None),
            progress=self._progress,
        )
        errors = self.sensitivity.errors()
        ranked = [group for group in self._groups if group.name in errors]
        if not ranked:
            return
        costs = self._costs_of(recipe)
        ladders = costs.ladders(recipe, ranked)
        left = self._left(recipe, errors, costs.levels(recipe))
        moves = order_moves(left, ladders, ranked)
        total = math.fsum(errors.values())
        fewest = self._bisect(recipe, moves, total)
        if fewest is not None:
            self._lower(recipe, moves, fewest, total)

    def _left(
        self, recipe: Recipe, errors: Mapping[str, float], levels: Sequence[Level]
    ) -> dict[str, dict[Level | None, float]]:
        """The error that each level leaves in each group: measured where it is large, else alike.

        What a level leaves of the large errors, the median share, is taken to be what it leaves of
        any.
        """
        left: dict[str, dict[Level | None, float]] = {
            group: {None: error, "float32": 0.0} for group, error in errors.items()
        }
        heavy = [group for group in errors if errors[group] > 0][:_HEAVY]
        for level in levels:
            if level == "float32" or not heavy:
                continue
            for group in heavy:
                self._progress(f"Measuring what {level} leaves of the error of {group}")
                single = alone(recipe, self._groups, group, level)
                error, _ = measured(self._trial.error, single)
                left[group][level] = min(error, errors[group])
            share = median(left[group][level] / errors[group] for group in heavy)
            for group, error in errors.items():
                left[group].setdefault(level, error * share)
        return left

    def _bisect(self, recipe: Recipe, moves: Sequence[Move], total: float) -> int | None:
        """The least number of moves, in their order, that is enough; it is known that 0 is not.

        Where all moves together are the graph in floating point, they are no candidate.
        """
        levels = raised(recipe, moves).levels
        whole = all(levels.get(group.name) == "float32" for group in self._groups)
        fails, enough = 0, len(moves) + (not whole)
        beyond = enough
        probe = self._guess(recipe, moves, total)
        while enough - fails > 1:
            done = moves[:probe]
            accepted = self._accepts(
                raised(recipe, done),
                f"{probe} of {len(moves)} steps raised",
                done,
                total,
            )
            fails, enough = (fails, probe) if accepted else (probe, enough)
            probe = (fails + enough) // 2
        return enough if enough < beyond else None

    def _guess(self, recipe: Recipe, moves: Sequence[Move], total: float) -> int:
        """Where the bisection begins: as many moves as would be enough if all goes as foretold."""
        seen = [one.measured for one in self.attempts if one.recipe == recipe]
        whole = next((found.drop for found in seen if found and found.problem is None), None)
        share = 1.0
        if whole is not None and math.isfinite(whole.value):
            while share > 1e-4 and self._chance(shrunk(whole, share)) < self._selected:
                share *= 0.8
        wanted = share * total if share < 1.0 else total / 2
        probe = 1
        while probe < len(moves) - 1 and _foretold(total, moves[:probe]) > wanted:
            probe += 1
        return probe

    def _lower(self, recipe: Recipe, moves: Sequence[Move], fewest: int, total: float) -> None:
        """Undo steps that the last one may have made needless, as long as the error allows."""
        done = list(moves[:fewest])
        # One step fewer was too much error: halfway there is what may be allowed.
        room = done[-1].removes / 2
        last = {move.group: move for move in done[:-1]}
        last.pop(done[-1].group, None)
        undone: list[Move] = []
        for move in sorted(last.values(), key=lambda move: move.pays):
            if math.fsum(one.removes for one in undone) + move.removes <= room:
                undone.append(move)
        for _ in range(_LOWERINGS):
            if not undone:
                return
            kept = [move for move in done if move not in undone]
            if self._accepts(
                raised(recipe, kept),
                f"{len(undone)} steps lowered again",
                kept,
                total,
            ):
                return
            undone = undone[: len(undone) // 2]


def _foretold(total: float, done: Sequence[Move]) -> float:
    return max(total - math.fsum(move.removes for move in done), 0.0)


def _drop(drop: Drop, budget: Budget) -> str:
    unit = " %" if budget.unit == "relative" else " points"
    return f"{drop.value * 100:.2f}{unit}".replace("-", "−")
