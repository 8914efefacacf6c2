"""The drop of a metric on paired samples, its 95 % interval, and the verdict against a budget.

The interval is a paired bootstrap: a resample draws samples, and both models are judged on the
same draw. A metric takes part as one row of numbers per sample and a function of rows and weights,
so that all resamples are computed together. Where fewer than ten samples disagree a bootstrap
knows too few outcomes, and the exact binomial bound on their share takes over: as it is for a mean
of scores in [0, 1], times the most that one sample can move it for any other metric.

B. Efron, R. Tibshirani: An Introduction to the Bootstrap (1993), chapter 13; C. Clopper, E.
Pearson: The use of confidence or fiducial limits (Biometrika 26, 1934); J. Hanley, A.
Lippman-Hand: If nothing goes wrong, is everything all right? (JAMA 249, 1983), the rule of three.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError
from edgekit.core.results import Verdict

Floats = NDArray[np.float64]

RESAMPLES = 5000
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
    were given different scores or rows on, None where neither was asked for.
    """

    value: float
    low: float
    high: float
    samples: int
    method: Literal["bootstrap", "exact"]
    disagreeing: int | None


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

    Raises:
        ConfigError: the reference's metric is 0 and the drop is to be relative to it.
    """
    count = len(reference)
    ones = np.ones((1, count))
    base = float(aggregate(reference, ones)[0])
    value = float(aggregate(candidate, ones)[0])
    if unit == "relative" and (base == 0 or not math.isfinite(base)):
        raise ConfigError(
            f"The reference's metric is {base:g}: a drop relative to it has no meaning.",
            hint="Give the budget in points, for example --max-drop 0.5pt.",
        )
    sign = 1.0 if higher_is_better else -1.0
    scale = abs(base) if unit == "relative" else 1.0
    drop = sign * (base - value) / scale
    low, high = _bootstrap(reference, candidate, aggregate, sign, unit, seed, resamples)
    if scores is not None:
        disagreeing = int(np.count_nonzero(scores[1] != scores[0]))
    elif influence is not None:
        disagreeing = int(np.count_nonzero((reference != candidate).any(axis=1)))
    else:
        return Drop(drop, low, high, count, "bootstrap", None)
    if disagreeing >= FEW_DISAGREEMENTS:
        return Drop(drop, low, high, count, "bootstrap", disagreeing)
    if scores is not None:
        exact_low, exact_high = _exact_mean(*scores)
    else:
        exact_high = clopper_pearson(disagreeing, count)[1] * (influence or 0.0)
        exact_low = -exact_high
    low, high = min(low, exact_low / scale), max(high, exact_high / scale)
    return Drop(drop, low, high, count, "exact", disagreeing)


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
) -> tuple[float, float]:
    """The percentile interval of the drop."""
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
    values = np.concatenate(drops)
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


def exact_difference(hurt: int, helped: int, count: int) -> tuple[float, float]:
    """Bounds of P(hurt) − P(helped) from exact binomial bounds of the two, at 95 %.

    Conservative: each side adds the bounds of both. With no disagreement it is ± 3/n.
    """
    hurt_low, hurt_high = clopper_pearson(hurt, count)
    helped_low, helped_high = clopper_pearson(helped, count)
    return hurt_low - helped_high, hurt_high - helped_low


def clopper_pearson(hits: int, count: int) -> tuple[float, float]:
    """The exact 95 % interval of a proportion, `hits` of `count`.

    With no hits (or nothing but hits) one end is certain and the other takes all of the 5 %, which
    is the rule of three: 0 of n gives about 3/n.
    """
    tail = 0.05 if hits in (0, count) else 0.025
    # P(X ≥ hits) grows with p and P(X ≤ hits) falls: each end is where one of them is the tail.
    low = 0.0 if hits == 0 else _crossing(hits - 1, count, 1 - tail)
    high = 1.0 if hits == count else _crossing(hits, count, tail)
    return low, high


def _crossing(hits: int, count: int, level: float) -> float:
    """The p with P(X ≤ hits | count, p) = level, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_cdf(hits, count, middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _binomial_cdf(hits: int, count: int, probability: float) -> float:
    """P(X ≤ hits) for X binomial, summed in logarithms."""
    if probability <= 0:
        return 1.0
    if probability >= 1:
        return 1.0 if hits >= count else 0.0
    whole = math.lgamma(count + 1)
    yes, no = math.log(probability), math.log1p(-probability)
    return math.fsum(
        math.exp(
            whole - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * yes + (count - k) * no
        )
        for k in range(hits + 1)
    )


def judge(drop: Drop, budget: Budget) -> tuple[Verdict, int | None]:
    """The verdict on a drop, and for an inconclusive one the samples that would settle it.

    pass: the interval's upper end is within the budget. fail: its lower end is beyond. The number
    of samples assumes that the drop stays what it is and that the interval narrows with the square
    root of the samples (with their number itself while nothing disagrees); it is None where no
    number would settle it, as when the drop lies on the budget.
    """
    if drop.high <= budget.limit:
        return "pass", None
    if drop.low > budget.limit:
        return "fail", None
    distance = abs(budget.limit - drop.value)
    width = (drop.high - drop.value) if drop.value <= budget.limit else (drop.value - drop.low)
    if distance == 0 or not math.isfinite(width):
        return "inconclusive", None
    if drop.disagreeing == 0 and budget.limit > 0:
        # The bound of one more sample is known exactly: 1 − 0.05^(1/n), in the unit of the drop.
        scale = clopper_pearson(0, drop.samples)[1] / drop.high
        needed = math.log(0.05) / math.log1p(-min(budget.limit * scale, 0.5))
    else:
        needed = drop.samples * (width / distance) ** 2
    # Beyond any data set: a number nobody can act on is no number.
    return "inconclusive", (max(drop.samples + 1, math.ceil(needed)) if needed < 1e9 else None)


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
