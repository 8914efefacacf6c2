"""Who is faster than whom, from the ratios that there are."""

from __future__ import annotations

import math

import pytest

from edgekit.core.measurements import Ratio
from edgekit.reporting.deciding import speed_of


def ratio(a: str, b: str, value: float, low: float, high: float) -> Ratio:
    """A ratio at 1 × 16."""
    return Ratio(a, b, 1, 16, value, low, high, 1.05, "not resolved")


def test_the_ratio_itself_is_taken() -> None:
    """And turned round where it is the other way."""
    found = [ratio("p", "q", 2.0, 1.6, 2.5)]
    speed = speed_of(found, "q", "p")
    assert speed is not None
    assert (speed.value, speed.low, speed.high) == (2.0, 1.6, 2.5)
    speed = speed_of(found, "p", "q")
    assert speed is not None
    assert (speed.value, speed.low, speed.high) == (0.5, 0.4, 0.625)


def test_two_that_met_a_third_are_compared_by_their_worst_cases() -> None:
    """Four times and twice a third are twice each other, less surely."""
    speed = speed_of([ratio("p", "q", 4.0, 3.6, 4.4), ratio("p", "r", 2.0, 1.8, 2.2)], "q", "r")
    assert speed is not None
    assert speed.value == pytest.approx(2.0)
    assert (speed.low, speed.high) == (pytest.approx(3.6 / 2.2), pytest.approx(4.4 / 1.8))


def test_without_a_ratio_nothing_is_known() -> None:
    """Nor does an interval without ends tell anything."""
    assert speed_of([], "p", "q") is None
    assert speed_of([ratio("p", "q", 2.0, 1.0, 3.0)], "q", "r") is None
    speed = speed_of([ratio("p", "q", 2.0, 0.0, math.inf)], "p", "q")
    assert speed is not None
    assert (speed.low, speed.high) == (0.0, math.inf)
