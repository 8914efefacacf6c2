"""Budgets that so many rows cannot prove, whatever answers them."""

from __future__ import annotations

import pytest

from edgekit.evaluation.accuracy_reach import out_of_reach
from edgekit.evaluation.binomial import clopper_pearson
from edgekit.evaluation.metrics import FunctionMetric
from edgekit.evaluation.metrics.table import METRICS
from edgekit.evaluation.statistics import Budget, parse_drop

ACCURACY = METRICS["accuracy"]


@pytest.mark.parametrize(
    ("rows", "budget", "within"), [(299, "1%", True), (298, "1%", False), (600, "0.5pt", True)]
)
def test_the_rule_of_three(rows: int, budget: str, within: bool) -> None:
    """Rows without a single disagreement bound the drop by about three over their number."""
    assert (out_of_reach(ACCURACY, rows, parse_drop(budget)) is None) is within


def test_the_rows_that_it_takes() -> None:
    """The least number whose bound is within the budget."""
    found = out_of_reach(ACCURACY, 100, parse_drop("0.1pt"))
    assert found is not None
    assert found.needed is not None
    assert clopper_pearson(0, found.needed)[1] <= 0.001 < clopper_pearson(0, found.needed - 1)[1]
    assert found.upper == clopper_pearson(0, 100)[1]


def test_no_rows_prove_a_budget_of_nothing() -> None:
    """Of 0 % there is no number to tell."""
    found = out_of_reach(ACCURACY, 10_000, Budget(0.0, "points"))
    assert found is not None
    assert found.needed is None


def test_other_metrics_have_to_be_measured() -> None:
    """What one row can do to an F1 or a correlation depends on the others; of degrees, on all."""
    for name in ("f1-macro", "spearman", "token-accuracy", "answer-f1"):
        assert out_of_reach(METRICS[name], 30, parse_drop("0.001%")) is None


def test_functions_have_to_be_measured() -> None:
    """Nothing is known of what a row does to one: an error of vectors may move with every row."""
    metric = FunctionMetric("mine", lambda predictions, labels: 1.0, "higher")
    assert out_of_reach(metric, 30, parse_drop("0.001%")) is None
