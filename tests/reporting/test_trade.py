"""The picture of speed, quality and size: who is grey, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.core.measurements import Interval
from edgekit.reporting.trade_charts import (
    Point,
    dominated,
    judged_points,
    judged_speeds,
    timed_points,
    timed_speeds,
    trade_off,
)
from tests.reporting import results
from tests.reporting.results import NOISY

FASTER, SAME, OPEN = Interval(1.5, 1.4, 1.6), Interval(1.0, 0.99, 1.01), Interval(1.2, 0.9, 1.6)
Ends = tuple[float, float, float]


def point(name: str, size: float = 90.0, quality: Ends | None = None) -> Point:
    """A model of so many megabytes; where it lies on the axis of time decides nothing."""
    return Point(name, 0, (9.0, 10.0, 11.0), quality, int(size * 1e6))


@pytest.mark.parametrize(
    ("speed", "other", "own", "grey"),
    [
        (FASTER, 90.0, 90.0, True),
        (OPEN, 90.0, 90.0, False),
        (None, 10.0, 90.0, False),
        (OPEN, 10.0, 90.0, False),
        (SAME, 90.0, 90.0, False),
        # A fraction of a per cent of size makes nobody worse.
        (SAME, 90.9, 91.1, False),
        (FASTER, 91.1, 90.9, True),
        (SAME, 45.0, 90.0, True),
        (FASTER, 120.0, 90.0, False),
    ],
)
def test_only_the_decided_is_grey(
    speed: Interval | None, other: float, own: float, grey: bool
) -> None:
    """Another must be decidedly better in one measure and no worse in the others."""
    mine, its = point("mine", own), point("its", other)
    speeds = {} if speed is None else {("its", "mine"): speed}
    assert dominated(mine, [mine, its], speeds) is grey


@pytest.mark.parametrize(
    ("quality", "grey"),
    [
        ((0.92, 0.93, 0.94), True),
        ((0.91, 0.91, 0.91), True),
        ((0.90, 0.92, 0.94), False),
        ((0.80, 0.81, 0.82), False),
    ],
)
def test_the_metric_counts_by_its_interval(quality: Ends, grey: bool) -> None:
    """A better median of an interval that reaches below leaves it open."""
    mine, its = point("mine", quality=(0.91, 0.91, 0.91)), point("its", quality=quality)
    assert dominated(mine, [mine, its], {("its", "mine"): FASTER}) is grey


def test_less_may_be_better() -> None:
    """A word error rate of 0.2 beats one of 0.3."""
    mine = replace(point("mine", quality=(0.3, 0.3, 0.3)), direction=-1.0)
    its = replace(point("its", quality=(0.1, 0.2, 0.25)), direction=-1.0)
    assert dominated(mine, [mine, its], {("its", "mine"): SAME})
    assert not dominated(its, [mine, its], {("mine", "its"): SAME})


def test_the_caption_says_which_measures() -> None:
    """Who is grey in what, and that memory is not among them."""
    points = [point("a"), point("b")]
    chart = trade_off(points, None, "at 1 × 16", speeds={("a", "b"): FASTER})
    assert chart is not None
    assert "decidedly no worse in speed and size and better in one of them: b." in chart.caption
    assert "Memory is not part of it." in chart.caption
    assert [row[-1] for row in chart.rows] == ["no", "yes"]
    chart = trade_off(points, None, "at 1 × 16", speeds={("a", "b"): OPEN})
    assert chart is not None
    assert "None is decidedly beaten in speed and size together." in chart.caption


def test_a_noisy_run_greys_nothing() -> None:
    """Neither in a comparison nor in a validation."""
    result = results.comparison()
    series = {row.name: 0 for row in result.contenders}
    at = "1\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}16"
    points = timed_points(result, at, series)
    quiet, noisy = (
        trade_off(points, None, "", speeds=timed_speeds(one, at))
        for one in (result, replace(result, noise=NOISY))
    )
    assert quiet is not None
    assert noisy is not None
    assert "yes" in [row[-1] for row in quiet.rows]
    assert {row[-1] for row in noisy.rows} == {"no"}
    assert "No speed is decided in this run" in noisy.caption
    judged = results.validation()
    assert judged.timing is not None
    assert len(judged_points(judged)) == 2
    assert judged_speeds(judged)
    assert not judged_speeds(replace(judged, timing=replace(judged.timing, noise=NOISY)))
