"""Whether a cut reaches its goal: proved, missed, or not to be told from what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.core.errors import MeasurementError
from edgekit.core.measurements import Accuracy, Verdict
from edgekit.evaluation.accuracy import Evaluation
from edgekit.evaluation.statistics import Budget, Drop
from edgekit.pipeline.cuts.goals import Goal
from edgekit.pipeline.cuts.verdicts import missed, speed_notes
from tests.pipeline.quantizable import compared

FASTER = Goal(None, 1.5, None)


def evaluated(verdict: Verdict) -> Evaluation:
    """Rows that have come to a verdict."""
    accuracy = Accuracy("accuracy", 0.85, 0.84, 0.01, 0.0, 0.02, 500, 3000, "points")
    drop = Drop(0.01, 0.0, 0.02, 500, "bootstrap", 20, 0.0)
    return Evaluation(verdict, accuracy, {}, {}, drop, Budget(0.01, "points"))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.5, 1.6, None),
        (1.1, 1.55, "inconclusive"),
        (1.49, 1.7, "inconclusive"),
        (1.1, 1.49, "fail"),
        (0.8, 0.9, "fail"),
    ],
)
def test_a_speedup_is_proved_by_its_lower_end(
    low: float, high: float, verdict: Verdict | None
) -> None:
    """An interval about the goal proves nothing; one below it that it was missed."""
    found = missed(FASTER, None, compared(low, high))
    assert (None if found is None else found.verdict) == verdict


def test_what_failed_is_told_before_what_is_open() -> None:
    """A cut whose accuracy fails is no inconclusive one because its speed is."""
    goal = Goal(None, 1.5, Budget(0.01, "points"))
    found = missed(goal, evaluated("fail"), compared(1.1, 1.6))
    assert found is not None
    assert found.verdict == "fail"
    assert "misses the budget of 1pt" in found.message
    found = missed(goal, evaluated("inconclusive"), compared(1.5, 1.6))
    assert found is not None
    assert found.verdict == "inconclusive"
    assert "About 3,000 rows" in found.hint
    assert missed(goal, evaluated("pass"), compared(1.5, 1.6)) is None


def test_without_a_goal_of_speed_an_open_one_is_noted() -> None:
    """A ratio says nothing of the speed: only what is slower fails."""
    assert missed(Goal(0.3, None, None), None, compared(0.9, 1.2)) is None
    assert speed_notes(compared(0.9, 1.2)) == [
        "Whether it is faster than the original is not resolved."
    ]
    assert speed_notes(compared(1.1, 1.2)) == []
    assert speed_notes(None) == []


def test_what_could_not_be_measured() -> None:
    """No pair of times is no verdict."""
    broken = replace(compared(1.1, 1.2), ratios=(), contenders=())
    with pytest.raises(MeasurementError, match="could not be measured against the original"):
        missed(FASTER, None, broken)
