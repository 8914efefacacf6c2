"""The drop of a metric on paired samples, its 95 % interval, and the verdict against a budget.

The interval is a paired bootstrap: a resample draws samples, and both models are judged on the
same draw. A metric takes part as one row of numbers per sample and a function of rows and weights,
so that all resamples are computed together. Where fewer than ten samples disagree a bootstrap
knows too few outcomes, and the exact binomial bound on their share takes over: as it is for a mean
of scores in [0, 1], times the most that one sample can move it for any other metric.

B. Efron, R. Tibshirani: An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError
from edgekit.core.measurements import Verdict
from edgekit.evaluation.binomial import clopper_pearson, exact_difference

Floats = NDArray[np.float64]

# Indices of drawn samples.
Draw = NDArray[np.intp]

DEFAULT_DROP = "1%"
RESAMPLES = 5000
# For metrics that cannot be computed for many resamples at once.
FEW_RESAMPLES = 200
FEW_DISAGREEMENTS = 10
# Numbers of one block of resamples: bounds the memory whatever the number of samples.
_BLOCK = 4_000_000
_NORMAL_975 = 1.959963984540054


class Aggregate(Protocol):
    """A metric's value from its rows `[samples, columns]`, once per row of weights.

    ``weights`` is `[resamples, samples]`: how often each sample was drawn. Returns `[resamples]`.
    """

    def __call__(self, rows: Floats, weights: Floats) -> Floats:
        """The metric of every resample."""
        ...


@dataclass(frozen=True)
class Budget:
    """The largest drop allowed: ``limit`` as a fraction of the reference's metric or in points.

    One point is 0.01 of the metric, as in "accuracy fell by half a point, from .850 to .845".
    """

    limit: float
    unit: Literal["relative", "points"]

    def __str__(self) -> str:
        return f"{self.limit * 100:g}" + ("%" if self.unit == "relative" else "pt")


@dataclass(frozen=True)
class Drop:
    """A change for the worse with its two-sided 95 % interval, in the unit of the budget.

    ``method`` is "bootstrap" or "exact"; ``disagreeing`` counts the samples that the two models
    were given different scores or rows on, None where neither was asked for. ``base_error`` is the
    standard error of the reference's metric as a share of it, 0 where the drop is not relative.
    """

    value: float
    low: float
    high: float
    samples: int
    method: Literal["bootstrap", "exact"]
    disagreeing: int | None
    base_error: float = 0.0


def parse_drop(text: str) -> Budget:
    """The budget that a ``--max-drop`` spells: ``1%`` of the reference, or ``0.5pt`` in points.

    Raises ConfigError for anything else; a number without a unit could mean either.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|pt)\s*", text)
    if match is None:
        raise ConfigError(
            f"The drop {text!r} has no unit, or is not a number of at least 0.",
            hint="Write 1% (of the reference's metric) or 0.5pt (absolute points of 0.01).",
        )
    limit = float(match[1]) / 100
    return Budget(limit, "relative" if match[2] == "%" else "points")


def paired_drop(
    reference: Floats,
    candidate: Floats,
    aggregate: Aggregate,
    *,
    higher_is_better: bool,
    unit: Literal["relative", "points"],
    scores: tuple[Floats, Floats] | None = None,
    influence: float | None = None,
    moved: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Drop:
    """The drop from reference to candidate with its interval, both judged on the same samples.

    Args:
        reference, candidate: rows of the metric `[samples, columns]`, sample by sample.
        scores: per sample how good each answer is, in [0, 1], where the metric is their mean;
            it decides how many samples disagree.
        influence: for other metrics the most that a changed share of the samples moves the value,
            per share; samples whose rows differ disagree. Infinite where nothing bounds it: then
            few disagreements decide nothing.
        moved: beside `influence` how many samples disagree, where rows that differ do not tell:
            all numbers may change without a change of their order.

    Raises:
        ConfigError: the reference's metric is 0 and the drop is to be relative to it.
    """
    count = len(reference)
    ones = np.ones((1, count))
    base = float(aggregate(reference, ones)[0])
    value = float(aggregate(candidate, ones)[0])
    scale = _scale(base, unit)
    sign = 1.0 if higher_is_better else -1.0
    drop = sign * (base - value) / scale
    low, high, error = _bootstrap(reference, candidate, aggregate, sign, unit, seed, resamples)
    if scores is not None:
        disagreeing = int(np.count_nonzero(scores[1] != scores[0]))
    elif influence is not None:
        differing = int(np.count_nonzero((reference != candidate).any(axis=1)))
        disagreeing = differing if moved is None else moved
    else:
        return Drop(drop, low, high, count, "bootstrap", None, error)
    if disagreeing >= FEW_DISAGREEMENTS:
        return Drop(drop, low, high, count, "bootstrap", disagreeing, error)
    if scores is not None:
        exact_low, exact_high = _exact_mean(*scores)
    else:
        exact_high = clopper_pearson(disagreeing, count)[1] * (influence or 0.0)
        exact_low = -exact_high
    low, high = min(low, exact_low / scale), max(high, exact_high / scale)
    return Drop(drop, low, high, count, "exact", disagreeing, error)


def drawn_drop(
    reference: Callable[[Draw | None], float],
    candidate: Callable[[Draw | None], float],
    count: int,
    *,
    higher_is_better: bool,
    unit: Literal["relative", "points"],
    disagreeing: int,
    seed: int = 0,
    resamples: int = FEW_RESAMPLES,
) -> Drop:
    """The drop of a metric that is only known as a function of drawn samples.

    Both functions take the indices of a draw, or None for all `count` samples, and return NaN for
    a draw that they have no value for. ``disagreeing`` counts the predictions that make a
    difference to the function. Of fewer than ten the bound is that of a mean of scores between 0
    and 1 (or, above 1, the reference's value): nothing else is known of such a metric.

    Raises ConfigError: the reference's metric is 0 and the drop is to be relative to it.
    """
    base, value = reference(None), candidate(None)
    scale = _scale(base, unit)
    sign = 1.0 if higher_is_better else -1.0
    drop = sign * (base - value) / scale
    generator = np.random.default_rng(seed)
    drops: list[float] = []
    bases: list[float] = []
    for _ in range(resamples):
        rows = generator.integers(0, count, size=count)
        before, after = reference(rows), candidate(rows)
        by = abs(before) if unit == "relative" else 1.0
        drops.append(sign * (before - after) / by if by else math.nan)
        bases.append(before)
    low, high = _percentiles(np.array(drops))
    error = _base_error(np.array(bases), unit)
    if disagreeing >= FEW_DISAGREEMENTS:
        return Drop(drop, low, high, count, "bootstrap", disagreeing, error)
    bound = clopper_pearson(disagreeing, count)[1] * max(1.0, abs(base)) / scale
    return Drop(drop, min(low, -bound), max(high, bound), count, "exact", disagreeing, error)


def _scale(base: float, unit: Literal["relative", "points"]) -> float:
    """What a drop is divided by. Raises ConfigError for a reference's metric of 0."""
    if unit == "points":
        return 1.0
    if base == 0 or not math.isfinite(base):
        raise ConfigError(
            f"The reference's metric is {base:g}: a drop relative to it has no meaning.",
            hint="Give the budget in points, for example --max-drop 0.5pt.",
        )
    return abs(base)


def _exact_mean(reference: Floats, candidate: Floats) -> tuple[float, float]:
    """Bounds of the drop of a mean of scores in [0, 1], from how many of them differ."""
    count = len(reference)
    hurt = int(np.count_nonzero(candidate < reference))
    helped = int(np.count_nonzero(candidate > reference))
    if np.isin(reference, (0, 1)).all() and np.isin(candidate, (0, 1)).all():
        return exact_difference(hurt, helped, count)
    # Where an answer can be partly right, what is helped may be worth next to nothing.
    return -clopper_pearson(helped, count)[1], clopper_pearson(hurt, count)[1]


def _bootstrap(
    reference: Floats,
    candidate: Floats,
    aggregate: Aggregate,
    sign: float,
    unit: Literal["relative", "points"],
    seed: int,
    resamples: int,
) -> tuple[float, float, float]:
    """The percentile interval of the drop, and the relative standard error of the reference."""
    generator = np.random.default_rng(seed)
    count, width = reference.shape
    # Samples with the same rows are interchangeable. Correct or wrong makes four kinds of pairs,
    # and drawing how many of each is the same bootstrap at a thousandth of the work.
    pairs, multiplicity = np.unique(
        np.concatenate([reference, candidate], axis=1), axis=0, return_counts=True
    )
    grouped = len(pairs) <= count // 4
    if not grouped:
        pairs = np.concatenate([reference, candidate], axis=1)
    drops: list[Floats] = []
    bases: list[Floats] = []
    block = max(1, min(resamples, _BLOCK // len(pairs)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if grouped:
            drawn = generator.multinomial(count, multiplicity / count, size=size)
            weights = drawn.astype(np.float64)
        else:
            weights = draw_counts(generator, count, size)
        before = aggregate(pairs[:, :width], weights)
        after = aggregate(pairs[:, width:], weights)
        drop = sign * (before - after)
        with np.errstate(divide="ignore", invalid="ignore"):
            drops.append(drop / np.abs(before) if unit == "relative" else drop)
        bases.append(before)
    low, high = _percentiles(np.concatenate(drops))
    return low, high, _base_error(np.concatenate(bases), unit)


def _base_error(values: Floats, unit: Literal["relative", "points"]) -> float:
    """The spread of the reference's metric over its resamples, as a share of its mean."""
    values = values[np.isfinite(values)]
    middle = abs(float(values.mean())) if unit == "relative" and len(values) else 0.0
    return float(values.std()) / middle if middle else 0.0


def _percentiles(values: Floats) -> tuple[float, float]:
    # A resample may leave a correlation or a class undefined; it says nothing about the drop.
    values = values[np.isfinite(values)]
    if not len(values):
        return -math.inf, math.inf
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def draw_counts(generator: np.random.Generator, count: int, size: int) -> Floats:
    """How often each of `count` samples is drawn in each of `size` resamples: `[size, count]`."""
    picks = generator.integers(0, count, size=(size, count))
    picks += np.arange(size)[:, None] * count
    drawn = np.bincount(picks.ravel(), minlength=size * count)
    return drawn.reshape(size, count).astype(np.float64)


def judge(drop: Drop, budget: Budget) -> tuple[Verdict, int | None]:
    """The verdict on a drop, and for an inconclusive one the samples that would settle it.

    pass: the interval's upper end is within the budget. fail: its lower end is beyond. The number
    of samples assumes that the drop stays what it is and that the interval narrows with the square
    root of the samples; while nothing disagrees it is the one at which the exact bound is within
    the budget, even if the reference's metric comes out lower on more samples than on these. It is
    None where no number would settle it, as when the drop lies on the budget.
    """
    if drop.high <= budget.limit:
        return "pass", None
    if drop.low > budget.limit:
        return "fail", None
    distance = abs(budget.limit - drop.value)
    width = (drop.high - drop.value) if drop.value <= budget.limit else (drop.value - drop.low)
    if distance == 0 or not math.isfinite(width):
        return "inconclusive", None
    if drop.disagreeing == 0 and drop.value == 0 and budget.limit > 0:
        needed = _needed_without_harm(drop, budget)
    else:
        needed = drop.samples * (width / distance) ** 2
    # Beyond any data set: a number nobody can act on is no number.
    return "inconclusive", (max(drop.samples + 1, math.ceil(needed)) if needed < 1e9 else None)


def _needed_without_harm(drop: Drop, budget: Budget) -> float:
    """The samples of which none may disagree, for the exact bound to be within the budget."""
    scale = clopper_pearson(0, drop.samples)[1] / drop.high
    if budget.unit == "relative":
        # More samples may show that the reference is right less often than it was on these, and
        # then the same bound is a larger share of it; without a mistake the rule of three says how
        # many there may be.
        scale *= max(0.0, 1 - max(_NORMAL_975 * drop.base_error, 3 / drop.samples))
    share = min(budget.limit * scale, 0.5)
    if share <= 0:
        return math.inf
    # The bound of n samples is known exactly: 1 − 0.05^(1/n).
    needed = math.ceil(math.log(0.05) / math.log1p(-share))
    return needed if clopper_pearson(0, needed)[1] <= share else needed + 1


def student_975(freedom: int) -> float:
    """The 97.5 % quantile of Student's t with `freedom` ≥ 1 degrees of freedom, to 0.2 %.

    Tabulated below 5; beyond, the Cornish–Fisher expansion (Abramowitz and Stegun 26.7.5).
    """
    table = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}
    if freedom in table:
        return table[freedom]
    z, v = _NORMAL_975, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
