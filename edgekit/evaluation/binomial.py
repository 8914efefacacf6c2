"""What can be said exactly of counted mistakes: the interval of a share, and McNemar's test.

C. Clopper, E. Pearson: The use of confidence or fiducial limits (Biometrika 26, 1934); J. Hanley,
A. Lippman-Hand: If nothing goes wrong, is everything all right? (JAMA 249, 1983), the rule of
three.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def mcnemar(hurt: int, helped: int) -> float:
    """The exact two-sided p of McNemar's test: are as many answers made wrong as made right?

    Q. McNemar: Note on the sampling error of the difference between correlated proportions or
    percentages (Psychometrika 12, 1947), with the binomial distribution itself.
    """
    changed = hurt + helped
    if not changed:
        return 1.0
    return min(1.0, 2 * _binomial_cdf(min(hurt, helped), changed, 0.5))


def mcnemar_of(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> float | None:
    """McNemar's p of scores, sample by sample; None unless every answer is right or wrong."""
    if not (np.isin(reference, (0, 1)).all() and np.isin(candidate, (0, 1)).all()):
        return None
    hurt = int(np.count_nonzero(candidate < reference))
    return mcnemar(hurt, int(np.count_nonzero(candidate > reference)))


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
