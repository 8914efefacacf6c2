"""How far a candidate's outputs lie from the reference's, added up over samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.core.results import Numerics
from edgekit.evaluation.reference import Reference
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array


@dataclass
class Distance:
    """Sums over all pairs of arrays of one output that were added.

    ``max_reference`` is the largest absolute value of the reference: tolerances are relative to it.
    """

    max_abs: float = 0.0
    max_reference: float = 0.0
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
        difference = np.abs(x - y)
        self.max_abs = _larger(self.max_abs, float(difference.max()))
        self.max_reference = _larger(self.max_reference, float(np.abs(x).max()))
        self._sum_abs += float(difference.sum())
        self._count += x.size
        self._dot += float(np.vdot(x, y))
        self._first += float(np.vdot(x, x))
        self._second += float(np.vdot(y, y))
        if choices and x.ndim and x.shape[-1] > 1:
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
            argmax_agreement=self._same / self._choices if self._choices else None,
        )


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
    """Add every floating-point output that both sides have in the same shape."""
    for name, array in candidate.items():
        other = reference.get(name)
        if other is None or other.shape != array.shape:
            continue
        if np.issubdtype(array.dtype, np.floating):
            distance = distances.setdefault(name, Distance())
            distance.add(other, array, choices=has_choices(task, name))


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
