"""How far a candidate's outputs lie from the reference's, added up over samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekit.core.measurements import Numerics
from edgekit.core.tolerance import FEW, Tolerance
from edgekit.evaluation.reference import Reference
from edgekit.runtime.golden import row_length
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array

Floats = NDArray[np.float64]
# How logits become probabilities: of classes that exclude each other, or of each by itself.
Likelihood = Literal["softmax", "sigmoid"]


class Used(NamedTuple):
    """How far two models lie apart in an output, how far they may, and of what."""

    apart: float
    allowed: float
    what: str


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
    _divergence: float = 0.0
    _distributions: int = 0
    _row: int = FEW

    @property
    def row(self) -> int:
        """How many numbers the shortest row had, `FEW` at most."""
        return self._row

    def add(
        self,
        reference: Array,
        candidate: Array,
        *,
        choices: bool,
        likelihood: Likelihood | None = None,
    ) -> float:
        """Add one pair of equal shapes, and return its largest absolute difference.

        `choices` counts where the largest along the last axis is; `likelihood` says how the last
        axis becomes probabilities, where it does. NaN on one side makes every figure NaN.
        """
        x = np.asarray(reference, dtype=np.float64)
        y = np.asarray(candidate, dtype=np.float64)
        if x.size == 0:
            return 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            return self._add(x, y, choices=choices, likelihood=likelihood)

    def _add(self, x: Floats, y: Floats, *, choices: bool, likelihood: Likelihood | None) -> float:
        difference = np.abs(x - y)
        self._row = min(self._row, row_length(x))
        gap = float(difference.max())
        self.max_abs = larger(self.max_abs, gap)
        self.max_reference = larger(self.max_reference, float(np.abs(x).max()))
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
        if likelihood is not None and not self.exact and x.ndim and x.shape[-1] > 1:
            found = DIVERGENCES[likelihood](x, y)
            self._divergence += float(found.sum())
            self._distributions += found.size
        return gap

    def numerics(self) -> Numerics:
        """The figures over everything added; the cosine is that of all values as one vector."""
        size = math.sqrt(self._first * self._second)
        return Numerics(
            max_abs=self.max_abs,
            mean_abs=self._sum_abs / self._count if self._count else 0.0,
            cosine=self._dot / size if size else math.nan,
            argmax_agreement=self._agreement(),
            kl=self._divergence / self._distributions if self._distributions else None,
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
            max_abs=found.max_abs,
            max_reference=self.max_reference,
            cosine=found.cosine,
            row=self._row,
        )

    def used(self, rule: Tolerance) -> Used:
        """How much of the rule is used up, NaN for outputs of two shapes.

        Of ``max_abs`` it is of the largest difference; of a cosine of 1 − cosine, or of the largest
        difference where short rows fail by that alone; of exact outputs of the share of elements
        that differ.
        """
        found = self.numerics()
        if self.mismatch is not None:
            return Used(math.nan, 0.0, "the largest difference")
        if self.exact:
            agreement = found.argmax_agreement
            differing = 0.0 if agreement is None else 1 - agreement
            allowed = round(1 - (rule.minimum or 1.0), 12)
            return Used(differing, allowed, "the share of elements that differ")
        if rule.kind == "max_abs" or (found.cosine >= rule.minimum and not self.within(rule)):
            most = rule.most(self.max_reference)
            return Used(found.max_abs, most, "the largest difference")
        # Outputs of nothing but zeros have no direction; rounding alone takes a cosine beyond 1.
        same = found.max_abs == 0 or found.cosine > 1
        apart = 0.0 if same else 1 - found.cosine
        return Used(apart, round(1 - rule.minimum, 12), "1 − cosine")

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


def softmax_divergence(x: Floats, y: Floats) -> Floats:
    """KL(softmax(x) ‖ softmax(y)) along the last axis, in nats.

    S. Kullback, R. Leibler: On information and sufficiency (1951).
    """
    before, after = _log_softmax(x), _log_softmax(y)
    share = np.exp(before)
    # A class that the reference rules out adds nothing, whatever its logit.
    terms = np.where(share > 0, share * (before - after), 0.0)
    # Rounding alone makes it less than nothing.
    return np.asarray(np.maximum(terms.sum(axis=-1), 0.0))


def sigmoid_divergence(x: Floats, y: Floats) -> Floats:
    """The same for classes that hold independently of each other, added up."""
    share = np.exp(-np.logaddexp(0, -x))
    yes = np.logaddexp(0, -y) - np.logaddexp(0, -x)
    no = np.logaddexp(0, y) - np.logaddexp(0, x)
    return np.asarray(np.maximum((share * yes + (1 - share) * no).sum(axis=-1), 0.0))


def _log_softmax(x: Floats) -> Floats:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


DIVERGENCES: Mapping[Likelihood, Callable[[Floats, Floats], Floats]] = {
    "softmax": softmax_divergence,
    "sigmoid": sigmoid_divergence,
}


def likelihood_of(output: str, problem: str | None) -> Likelihood | None:
    """How an output becomes probabilities, None where it does not."""
    if "logits" not in output or problem == "regression":
        return None
    return "sigmoid" if problem == "multi_label_classification" else "softmax"


def larger(first: float, second: float) -> float:
    """The larger of two numbers; NaN is larger than any."""
    if math.isnan(first):
        return first
    return second if math.isnan(second) or second > first else first


def has_choices(task: str, output: str) -> bool:
    """Whether the largest value along an output's last axis is a decision."""
    return task == "custom" or "logits" in output


def add_outputs(
    distances: dict[str, Distance],
    task: str,
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    *,
    problem: str | None = None,
) -> float:
    """Add every output that both sides have, and return the largest absolute difference.

    An output of another shape is marked as a mismatch, and the difference is NaN.
    """
    gap = 0.0
    for name, array in candidate.items():
        other = reference.get(name)
        if other is None:
            continue
        distance = distances.setdefault(name, Distance(exact=not _floating(array, other)))
        if other.shape != array.shape:
            distance.max_abs = gap = math.nan
            distance.mismatch = (
                f"the shape {list(array.shape)} in the bundle, {list(other.shape)} in the original"
            )
            continue
        found = distance.add(
            other,
            array,
            choices=has_choices(task, name),
            likelihood=likelihood_of(name, problem),
        )
        gap = larger(gap, found)
    return gap


def largest_gap(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> float:
    """The largest absolute difference of the outputs that both sides have, of equal shapes."""
    gap = 0.0
    for name, array in candidate.items():
        if name in reference and array.size:
            with np.errstate(invalid="ignore"):
                difference = np.abs(array.astype(np.float64) - reference[name].astype(np.float64))
            gap = larger(gap, float(difference.max()))
    return gap


def _floating(*arrays: Array) -> bool:
    return any(np.issubdtype(array.dtype, np.floating) for array in arrays)


def mismatch_of(distances: Mapping[str, Distance]) -> str | None:
    """The sentence on the first output whose shape is another than the reference's."""
    found = (distance.describe(name) for name, distance in distances.items() if distance.mismatch)
    return next(found, None)


def distances_on(
    model: Model,
    reference: Reference,
    batches: Iterable[Mapping[str, Array]],
    *,
    problem: str | None = None,
) -> dict[str, Distance]:
    """The distances on ready-made feeds (golden inputs, say), where there is no DATA.

    Raises InputMismatch when one of the two does not take the feeds.
    """
    found: dict[str, Distance] = {}
    for feeds in batches:
        add_outputs(found, model.task, reference.run(feeds), model.run(feeds), problem=problem)
    return found
