"""Whether so many rows can prove a budget at all, known before anything runs.

The best that a candidate can do is to answer every row as the original does. Even then the exact
bound on what other rows may show is about 3/n (the rule of three; see `binomial`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekit.evaluation.binomial import clopper_pearson
from edgekit.evaluation.metrics import FunctionMetric, Metric
from edgekit.evaluation.statistics import Budget


@dataclass(frozen=True)
class OutOfReach:
    """A budget that `rows` cannot prove: the least bound on them, and the rows that it takes.

    ``upper`` is in the unit of the budget; ``needed`` is the least number, None where there is
    none (a budget of 0), and more where the original itself is not always right.
    """

    rows: int
    upper: float
    needed: int | None


def out_of_reach(metric: Metric | FunctionMetric, rows: int, budget: Budget) -> OutOfReach | None:
    """What a budget lacks; None where it may be proved, or where only running the models tells.

    Of a share of right answers the bound is that of a share of the rows: relative to a metric
    below 1 it only grows. Where answers are better or worse by degrees, many may move a little,
    and the bootstrap's interval of that may be narrower.
    """
    if not isinstance(metric, Metric) or metric.score is None or metric.graded:
        return None
    upper = clopper_pearson(0, rows)[1]
    if upper <= budget.limit:
        return None
    if budget.limit <= 0:
        return OutOfReach(rows, upper, None)
    needed = math.ceil(math.log(0.05) / math.log1p(-budget.limit))
    return OutOfReach(rows, upper, max(rows + 1, needed))
