"""What a search tries, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from edgekit.core.measurements import Tried
from edgekit.evaluation.statistics import Drop
from edgekit.quantization.distances import Measure
from edgekit.quantization.recipes import Recipe


@dataclass(frozen=True)
class Measured:
    """A full evaluation of a candidate on the search rows.

    ``drop`` is in the unit of the budget; ``problem`` a failure that no metric shows (NaN, outputs
    of another shape); ``latency_ms`` where it was measured.
    """

    drop: Drop
    bytes: int
    latency_ms: float | None = None
    problem: str | None = None


class Trial(Protocol):
    """Writes a recipe down and runs it.

    Both methods raise QuantizeError or SessionError for a recipe that fails; other errors end the
    search.
    """

    @property
    def measure(self) -> Measure:
        """What `error` is."""

    def error(self, recipe: Recipe) -> float:
        """The error of the outputs on a few of the search rows, see `distances.OutputError`."""

    def evaluate(self, recipe: Recipe) -> Measured:
        """The drop on all of the search rows: what is counted and costs most."""


@dataclass(frozen=True)
class Attempt:
    """A recipe that was tried. ``chance`` is that of passing the verdict, NaN where unknown.

    ``error`` is that of the outputs, ``predicted`` what the groups' errors had foretold; ``cost``
    that of what was raised, 0 for everything quantized; ``reason`` why it was not enough, or was.
    """

    recipe: Recipe
    name: str
    accepted: bool
    reason: str
    measured: Measured | None = None
    chance: float = math.nan
    error: float | None = None
    predicted: float | None = None
    cost: float = 0.0

    def told(self, *, taken: bool) -> Tried:
        """The attempt as a result tells it.

        What is taken for want of one that is good enough keeps its own reason.
        """
        found = self.measured
        value = None if found is None or math.isnan(found.drop.value) else found.drop.value
        cheapest = taken and self.accepted
        reason = "the cheapest within the budget" if cheapest else self.reason
        return Tried(self.name, value, None if found is None else found.bytes, taken, reason)


def describe(recipe: Recipe) -> str:
    """A recipe in words: the scheme, what differs from the plain one, and what was raised."""
    told: list[str] = [recipe.scheme]
    plain = Recipe(recipe.scheme)
    if recipe.smooth is not None:
        told.append(f"SmoothQuant {recipe.smooth:g}")
    if recipe.correction != "none":
        told.append(f"{recipe.correction} bias correction")
    if recipe.symmetric:
        told.append("symmetric activations")
    if recipe.calibrator != plain.calibrator:
        told.append(f"ranges by {recipe.calibrator}")
    if recipe.rounding != plain.rounding:
        told.append(f"rounding by {recipe.rounding}")
    if recipe.reduce_range:
        told.append("7-bit weights")
    names = list(recipe.levels)
    told += [f"{name} at {recipe.levels[name]}" for name in names[:2]]
    if len(names) > 2:
        told.append(f"{len(names) - 2} more raised")
    return ", ".join(told)
