"""What the rows of a search tell of the verdict to come, which rests on rows that no choice saw."""

from __future__ import annotations

import math

from edgekit.evaluation.binomial import clopper_pearson
from edgekit.evaluation.statistics import FEW_DISAGREEMENTS, Budget, Drop

# Of a 95 % interval, its half widths per standard error.
_HALF_WIDTH = 1.959963984540054


def chance(drop: Drop, budget: Budget, verdict_samples: int | None = None) -> float:
    """The probability that the verdict on other rows is "pass", as far as this drop tells.

    It passes when the interval's upper end is within the budget. The interval of `verdict_samples`
    rows (None: as many as here) is as wide as their number makes it, and the drop on them differs
    from this one by the sampling error of both. A drop that is no number has no chance.
    """
    upper = projected_upper(drop, verdict_samples)
    error = _standard_error(drop)
    if not (math.isfinite(upper) and math.isfinite(error)):
        return 0.0
    error *= math.sqrt(1 + drop.samples / (verdict_samples or drop.samples))
    room = budget.limit - upper
    if error == 0:
        # Nothing to tell how it would spread: on other rows the two agree again, or nearly.
        return float(room >= 0)
    return 0.5 * (1 + math.erf(room / error / math.sqrt(2)))


def projected_upper(drop: Drop, verdict_samples: int | None = None) -> float:
    """The upper end that the interval would have on so many rows if the drop stayed what it is.

    A bootstrap's narrows with the square root of their number. The exact bound of few
    disagreements is computed for as many more as there are rows; it gives way to the bootstrap
    where those are no longer few.
    """
    rows = verdict_samples or drop.samples
    few = drop.disagreeing
    if drop.method != "exact" or few is None:
        return drop.value + (drop.high - drop.value) * math.sqrt(drop.samples / rows)
    expected = round(few * rows / drop.samples)
    weight = _weight(drop, few)
    if expected < FEW_DISAGREEMENTS:
        return max(drop.value, weight * clopper_pearson(expected, rows)[1])
    return drop.value + _HALF_WIDTH * weight * math.sqrt(expected) / rows


def _standard_error(drop: Drop) -> float:
    if drop.method != "exact" or drop.disagreeing is None:
        return (drop.high - drop.low) / (2 * _HALF_WIDTH)
    return _weight(drop, drop.disagreeing) * math.sqrt(drop.disagreeing) / drop.samples


def _weight(drop: Drop, few: int) -> float:
    """How far a share of samples that disagree may move the metric, read off the exact bound."""
    return drop.high / clopper_pearson(few, drop.samples)[1]


def shrunk(drop: Drop, error: float) -> Drop:
    """The drop that is likely when the outputs' error falls to a share of it, as a first guess.

    Noise of power p moves answers across their borders in proportion to √p, and an interval is as
    wide as the root of how many moved.
    """
    value = drop.value * math.sqrt(error)
    width = error**0.25
    return Drop(
        value,
        value - (drop.value - drop.low) * width,
        value + (drop.high - drop.value) * width,
        drop.samples,
        drop.method,
        drop.disagreeing,
        drop.base_error,
    )
