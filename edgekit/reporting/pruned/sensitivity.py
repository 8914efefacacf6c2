"""By what the rows of a sensitivity are compared: labels where there are some, else the original.

What is told of them is measured on rows for choosing, after least squares at most: it ranks
structures, and proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.core.pruned import SensitivityRow
from edgekit.reporting import words

#: Of decisions, right ones or equal ones, so many may go before a share counts as too much.
ALLOWED = 0.01


@dataclass(frozen=True)
class Cost:
    """One measure of all rows, as the original has it (``whole``) and as it is said.

    ``unit`` is 100 where it is drawn in per cent; ``counted`` tells that decisions are counted, so
    that `ALLOWED` says something of it.
    """

    name: str
    whole: float
    of: Callable[[SensitivityRow], float]
    said: Callable[[float], str]
    unit: float
    counted: bool


def cost(rows: Sequence[SensitivityRow]) -> Cost:
    """The first of accuracy, agreement and loss that every row has."""
    known = rows[0].reference_accuracy if rows else None
    if known is not None and all(row.accuracy is not None for row in rows):
        return Cost("right", known, lambda row: _known(row.accuracy), words.share, 100.0, True)
    if rows and all(row.agreement is not None for row in rows):
        return Cost(
            "decided as by the original", 1.0, lambda row: _known(row.agreement), words.share,
            100.0, True,
        )  # fmt: skip
    return Cost("distance from the original", 0.0, lambda row: row.loss, words.digits, 1.0, False)


def by_structure(rows: Sequence[SensitivityRow]) -> dict[str, list[SensitivityRow]]:
    """The rows of each structure, by rising shares."""
    found: dict[str, list[SensitivityRow]] = {}
    for row in rows:
        found.setdefault(row.structure, []).append(row)
    return {name: sorted(own, key=lambda row: row.ratio) for name, own in found.items()}


def within(rows: Sequence[SensitivityRow], measure: Cost) -> SensitivityRow | None:
    """The deepest cut of a structure up to which no share costs more than is `ALLOWED`.

    None where the first costs more already, or where decisions are not what is counted.
    """
    last = None
    for row in rows if measure.counted else ():
        if not measure.of(row) >= measure.whole - ALLOWED:
            break
        last = row
    return last


def _known(value: float | None) -> float:
    return math.nan if value is None else value
