"""Which groups of a graph pay for its quantization: each quantized alone, its error in the outputs.

The errors of single groups add up to that of the whole, nearly: what the sum foretells stands
beside what was verified, so that a reader sees how far to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgekit.core.errors import QuantizeError, SessionError, os_error_number
from edgekit.quantization.distances import Measure
from edgekit.quantization.recipes import Group, Level, Recipe

# The error of a recipe's outputs, on the rows that rankings are made on.
ErrorOf = Callable[[Recipe], float]


@dataclass(frozen=True)
class GroupError:
    """One group quantized alone; ``error`` is infinite where its answers were no numbers.

    ``share`` is the part that it has in the sum over all groups, None where that is not finite.
    ``note`` tells of a group that could not be quantized alone.
    """

    group: str
    kind: str
    parameters: int
    error: float
    share: float | None
    note: str | None = None


@dataclass(frozen=True)
class Sensitivity:
    """The ranking, worst group first, and how well it foretells the whole.

    ``predicted`` is the sum of the groups' errors, ``verified`` the error with all of them
    quantized. ``measure`` says what an error is.
    """

    groups: tuple[GroupError, ...]
    predicted: float
    verified: float
    measure: Measure

    def errors(self) -> dict[str, float]:
        """The errors by group, worst first, infinite ones as a number beyond all others.

        So they can be added up, and what they foretell can be compared.
        """
        finite = [one.error for one in self.groups if math.isfinite(one.error)]
        beyond = 1e3 * (math.fsum(finite) or 1.0)
        return {one.group: one.error if math.isfinite(one.error) else beyond for one in self.groups}


def alone(recipe: Recipe, groups: Sequence[Group], name: str, level: Level | None = None) -> Recipe:
    """The recipe with one group quantized (or at a `level`) and all others in floating point."""
    others: dict[str, Level] = {one.name: "float32" for one in groups if one.name != name}
    # What was raised before stays where it was, exact or not: it is none of this group's doing.
    kept = {**others, **recipe.levels}
    return replace(recipe, levels=kept if level is None else {**kept, name: level})


def rank_groups(
    groups: Sequence[Group],
    recipe: Recipe,
    error_of: ErrorOf,
    measure: Measure,
    *,
    verified: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Sensitivity:
    """Every group that the recipe quantizes, ranked by the error it makes alone.

    Groups that are not at the recipe's scheme already stay as they are. A group that cannot be
    quantized alone, or whose answers are then no numbers, has an infinite error: it is the first to
    be raised.

    Args:
        error_of: called once per group, and once more for the whole unless `verified` is given.
    """
    ranked = [group for group in groups if group.name not in recipe.levels]
    found: list[tuple[Group, float, str | None]] = []
    for number, group in enumerate(ranked, 1):
        progress(f"Quantizing group {number} of {len(ranked)} alone: {group.name}")
        error, note = measured(error_of, alone(recipe, groups, group.name))
        found.append((group, error, note))
    whole = measured(error_of, recipe)[0] if verified is None else verified
    total = math.fsum(error for _, error, _ in found)
    # Sorted by the error alone: groups of one error keep the graph's order.
    found.sort(key=lambda one: -one[1])
    return Sensitivity(
        groups=tuple(
            GroupError(
                group.name,
                group.kind,
                group.parameters,
                error,
                error / total if total and math.isfinite(total) else None,
                note,
            )
            for group, error, note in found
        ),
        predicted=total,
        verified=whole,
        measure=measure,
    )


def measured(error_of: ErrorOf, recipe: Recipe) -> tuple[float, str | None]:
    """The error of a recipe, and the reason of an infinite one where it was refused."""
    try:
        error = error_of(recipe)
    except (QuantizeError, SessionError) as refused:
        give_up(refused)
        return math.inf, refused.message
    return (error, None) if math.isfinite(error) else (math.inf, "its answers are no numbers")


def give_up(refused: QuantizeError | SessionError) -> None:
    """Raise what is not the recipe's fault: no other would fare better on a full disk."""
    if os_error_number(refused) is not None:
        raise refused
