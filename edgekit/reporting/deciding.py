"""Which of several contenders is decidedly faster, from the ratios that a run has formed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.core.measurements import Contender, Interval, Noise, Ratio
from edgekit.reporting import words


def noisy(found: Noise | None) -> bool:
    """Whether a run decides nothing about speed."""
    return found is not None and found.verdict == "noisy"


def speed_of(ratios: Sequence[Ratio], one: str, other: str) -> Interval | None:
    """How many times faster `one` is than `other` at a workload; None where no ratio tells.

    Where the two were compared with a third only, the interval is that of the worst case of both:
    wider than their own would be, and never too narrow.
    """
    for row in ratios:
        if (row.a, row.b) == (other, one):
            return Interval(row.value, row.low, row.high)
        if (row.a, row.b) == (one, other):
            return Interval(*map(_inverse, (row.value, row.high, row.low)))
    bases = {row.b: row for row in ratios if row.b in (one, other)}
    ours, theirs = bases.get(one), bases.get(other)
    if ours is None or theirs is None or ours.a != theirs.a:
        return None
    return Interval(
        ours.value * _inverse(theirs.value),
        ours.low * _inverse(theirs.high),
        ours.high * _inverse(theirs.low),
    )


def rivals(
    ratios: Sequence[Ratio], best: Contender, rows: Sequence[Contender], *, noisy: bool
) -> list[str]:
    """The other contenders of a workload than which `best` is not decidedly faster."""
    at = [row for row in ratios if words.of(row) == words.of(best)]
    found = []
    for row in rows:
        if row.name == best.name:
            continue
        speed = speed_of(at, best.name, row.name)
        if noisy or speed is None or not speed.low > 1:
            found.append(row.name)
    return found


def _inverse(ratio: float) -> float:
    if ratio == 0:
        return math.inf
    return 0.0 if math.isinf(ratio) else 1 / ratio
