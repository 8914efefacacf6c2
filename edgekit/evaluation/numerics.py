"""How far a candidate's outputs lie from the reference's, added up over samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.core.results import Numerics
from edgekit.core.tolerance import Tolerance
from edgekit.evaluation.reference import Reference
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array

Floats = NDArray[np.float64]


@dataclass
class Distance:
    """Sums over all pairs of arrays of one output that were added.

    ``max_reference`` is the largest absolute value of the reference: tolerances are relative to it.
    ``exact`` outputs (whole numbers, truth values) are compared by equality, and their
    ``argmax_agreement`` is the share of equal elements. ``mismatch`` tells of two other shapes.
    """

    max_abs: float = 0.0
    max_reference: float = 0.0
    exact: bool = False
    mismatch: str | None = None
    _sum_abs: float = 0.0
    _count: int = 0
    _dot: float = 0.0
    _first: float = 0.0
    _second: float = 0.0
    _same: int = 0
    _choices: int = 0

    def add(self, reference: Array, candidate: Array, *, choices: bool) -> None:
        """Add one pair of equal shapes; `choices` counts where the largest along the last axis is.

        NaN on one side makes every figure NaN.
        """
        x = np.asarray(reference, dtype=np.float64)
        y = np.asarray(candidate, dtype=np.float64)
        if x.size == 0:
            return
        with np.errstate(invalid="ignore"):
            self._add(x, y, choices=choices)

    def _add(self, x: Floats, y: Floats, *, choices: bool) -> None:
        difference = np.abs(x - y)
        self.max_abs = _larger(self.max_abs, float(difference.max()))
        self.max_reference = _larger(self.max_reference, float(np.abs(x).max()))
        self._sum_abs += float(difference.sum())
        self._count += x.size
        self._dot += float(np.vdot(x, y))
        self._first += float(np.vdot(x, x))
        self._second += float(np.vdot(y, y))
        if self.exact:
            self._same += int(np.sum(x == y))
            self._choices += x.size
        elif choices and x.ndim and x.shape[-1] > 1:
            same = x.argmax(axis=-1) == y.argmax(axis=-1)
            self._same += int(np.sum(same))
            self._choices += int(np.size(same))

    def numerics(self) -> Numerics:
        """The figures over everything added; the cosine is that of all values as one vector."""
        size = math.sqrt(self._first * self._second)
        return Numerics(
            max_abs=self.max_abs,
            mean_abs=self._sum_abs / self._count if self._count else 0.0,
            cosine=self._dot / size if size else math.nan,
            argmax_agreement=self._agreement(),
        )

    def within(self, rule: Tolerance) -> bool:
        """Whether the distance is within a tolerance.

        Exact outputs of a float32 bundle must all be equal; where the rule is a cosine, as many.
        """
        if self.mismatch is not None:
            return False
        found = self.numerics()
        if self.exact:
            agreement = found.argmax_agreement
            return agreement is None or agreement >= (rule.minimum or 1.0)
        return rule.accepts(
            max_abs=found.max_abs, max_reference=self.max_reference, cosine=found.cosine
        )

    def describe(self, name: str) -> str:
        """The distance of the output `name` as a sentence."""
        if self.mismatch is not None:
            return f"The output {name} has {self.mismatch}."
        found = self.numerics()
        if self.exact and found.argmax_agreement is not None:
            return (
                f"The output {name}, whole numbers, has the original's value in only"
                f" {found.argmax_agreement:.2%} of its elements."
            )
        return (
            f"The outputs are not within the tolerance of the original: {name} has a cosine of"
            f" {found.cosine:.6f} and is off by up to {found.max_abs:.3g}."
        )

    def _agreement(self) -> float | None:
        return self._same / self._choices if self._choices else None


def _larger(first: float, second: float) -> float:
    return second if math.isnan(second) or second > first else first


def has_choices(task: str, output: str) -> bool:
    """Whether the largest value along an output's last axis is a decision."""
    return task == "custom" or "logits" in output


def add_outputs(
    distances: dict[str, Distance],
    task: str,
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
) -> None:
    """Add every output that both sides have; one of another shape is marked as a mismatch."""
    for name, array in candidate.items():
        other = reference.get(name)
        if other is None:
            continue
        distance = distances.setdefault(name, Distance(exact=not _floating(array, other)))
        if other.shape != array.shape:
            distance.max_abs = math.nan
            distance.mismatch = (
                f"the shape {list(array.shape)} in the bundle, {list(other.shape)} in PyTorch"
            )
            continue
        distance.add(other, array, choices=has_choices(task, name))


def _floating(*arrays: Array) -> bool:
    return any(np.issubdtype(array.dtype, np.floating) for array in arrays)


def mismatch_of(distances: Mapping[str, Distance]) -> str | None:
    """The sentence on the first output whose shape is another than the reference's."""
    found = (distance.describe(name) for name, distance in distances.items() if distance.mismatch)
    return next(found, None)


def distances_on(
    model: Model, reference: Reference, batches: Iterable[Mapping[str, Array]]
) -> dict[str, Distance]:
    """The distances on ready-made feeds (golden inputs, say), where there is no DATA.

    Raises InputMismatch when one of the two does not take the feeds.
    """
    found: dict[str, Distance] = {}
    for feeds in batches:
        add_outputs(found, model.task, reference.run(feeds), model.run(feeds))
    return found
