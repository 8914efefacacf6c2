"""The picture of speed, quality and size, and who in it is decidedly beaten."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.core.measurements import BenchResult, Interval, Ratio, ValidateResult
from edgekit.reporting import words
from edgekit.reporting.deciding import noisy, speed_of
from edgekit.reporting.drawing import (
    GRID,
    INK,
    MUTED,
    TEXT,
    Chart,
    colour,
    figure,
    literal,
    ratio_ticks,
    svg,
    time_label,
)
from edgekit.reporting.quality_charts import FAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What differs by less is as good: no one would choose by it.
_SAME = 1.02
# A metric beyond it, as the perplexity of a broken model, leaves nothing to compare in a picture.
_LARGEST_METRIC = 1e12


@dataclass(frozen=True)
class Point:
    """One model in the picture of speed, quality and size, each as (low, value, high).

    An end of ``quality`` that has no bound is infinite.

    ``direction`` is −1 for a metric of which less is better.
    """

    name: str
    series: int
    ms: tuple[float, float, float]
    quality: tuple[float, float, float] | None
    size_bytes: int | None
    direction: float = 1.0


#: How many times faster the first of two names is, where that was decided at all.
Speeds = Mapping[tuple[str, str], Interval]


def judged_points(result: ValidateResult) -> list[Point]:
    """Reference and candidate of a validation: their speed, metric and size."""
    latency, accuracy = result.latency, result.accuracy
    if latency is None or accuracy is None:
        return []
    if not all(abs(value) < _LARGEST_METRIC for value in (accuracy.reference, accuracy.candidate)):
        return []
    own = latency.candidate_ms
    low, high = latency.candidate_low_ms or own, latency.candidate_high_ms or own
    scale = abs(accuracy.reference) if accuracy.drop_unit == "relative" else 1.0
    turned = accuracy.drop * (accuracy.candidate - accuracy.reference) > 0
    sign = -1.0 if turned else 1.0
    metric = sorted(
        accuracy.reference - sign * (bound * scale if abs(bound * 100) < FAR else missing)
        for bound, missing in (
            (accuracy.drop_lower_95, -math.inf), (accuracy.drop_upper_95, math.inf)
        )
    )  # fmt: skip
    name = str(result.bundle.get("name") or "bundle")
    reference = (latency.reference_ms,) * 3
    first = None if result.timing is None else next(iter(result.timing.contenders), None)
    if first is not None and first.p50_low_ms is not None and first.p50_high_ms is not None:
        middle = latency.reference_ms
        reference = (min(first.p50_low_ms, middle), middle, max(first.p50_high_ms, middle))
    original = "imported" if result.reference.get("kind") == "onnx" else "pytorch"
    return [
        Point(original, 0, reference, (accuracy.reference,) * 3, result.size.reference_bytes,
              sign),
        Point(name, 1, (low, own, high), (metric[0], accuracy.candidate, metric[1]),
              result.size.candidate_bytes, sign),
    ]  # fmt: skip


def judged_speeds(result: ValidateResult) -> Speeds:
    """How fast the two points of `judged_points` are, the second against the first."""
    if result.latency is None or (result.timing is not None and noisy(result.timing.noise)):
        return {}
    points = judged_points(result)
    if len(points) < 2:
        return {}
    speed = result.latency.speedup
    row = Ratio(points[0].name, points[1].name, 1, None, speed.value, speed.low, speed.high, 1.0,
                words.resolved(speed))  # fmt: skip
    return _speeds([point.name for point in points], [row])


def timed_points(result: BenchResult, workload: str, series: Mapping[str, int]) -> list[Point]:
    """The contenders of one workload: their speed and the size of their files."""
    found = []
    for row in result.contenders:
        if words.of(row) != workload or row.p50_ms is None or row.artifact_bytes is None:
            continue
        low, high = row.p50_low_ms or row.p50_ms, row.p50_high_ms or row.p50_ms
        found.append(
            Point(row.name, series[row.name], (low, row.p50_ms, high), None, row.artifact_bytes)
        )
    return found


def timed_speeds(result: BenchResult, workload: str) -> Speeds:
    """How fast the contenders of a workload are against each other; nothing of a noisy run."""
    if noisy(result.noise):
        return {}
    at = [row for row in result.ratios if words.of(row) == workload]
    return _speeds(list(dict.fromkeys(row.name for row in result.contenders)), at)


def _speeds(names: Sequence[str], ratios: Sequence[Ratio]) -> Speeds:
    found = {
        (one, other): speed_of(ratios, one, other)
        for one in names for other in names if one != other
    }  # fmt: skip
    return {pair: speed for pair, speed in found.items() if speed is not None}


def dominated(point: Point, others: Sequence[Point], speeds: Speeds) -> bool:
    """Whether another is decidedly better in one measure and no worse in all that are drawn.

    Measures are speed, the size of the files and, where it is known, the metric. Decided is what
    all of an interval says; 2 % of speed or of size make nobody better or worse.
    """
    return any(
        _decided(point, other, speeds.get((other.name, point.name)))
        for other in others
        if other is not point
    )


def _decided(point: Point, other: Point, speed: Interval | None) -> bool:
    """Whether `other`, which is so many times faster than `point`, leaves nothing to choose."""
    if speed is None or speed.low < 1 / _SAME:
        return False
    ours, theirs = (one.size_bytes or 0 for one in (point, other))
    if theirs > _SAME * ours:
        return False
    better = speed.low > _SAME or _SAME * theirs < ours
    if point.quality is not None and other.quality is not None:
        low, high = (
            sorted(bound * one.direction for bound in one.quality or ()) for one in (other, point)
        )
        if low[0] < high[2]:
            return False
        better = better or low[0] > high[2]
    return better


def trade_off(
    points: Sequence[Point],
    metric: str | None,
    where: str,
    *,
    speeds: Speeds,
    counts: str = "time of one prediction",
) -> Chart | None:
    """Speed against the metric, or without one against size; dominated points are grey."""
    if len(points) < 2:
        return None
    drawn, (axes,) = figure(3.5)
    largest = max(point.size_bytes or 0 for point in points) or 1
    grey = [dominated(point, points, speeds) for point in points]
    spans = [point.quality or ((point.size_bytes or 0) / 1e6,) * 3 for point in points]
    heights = [end for span in spans for end in span if math.isfinite(end)]
    room = max(max(heights) - min(heights), abs(max(heights)) * 0.05, 1e-9) * 0.35
    # Sizes are compared from nothing: files of almost the same size look so.
    bottom, top = (
        (0.0, max(heights) * 1.2 or 1.0)
        if metric is None
        else (min(heights) - room, max(heights) + room)
    )
    for point, span, is_grey in zip(points, spans, grey, strict=True):
        tone = MUTED if is_grey else colour(point.series)
        middle = span[1]
        # What has no bound runs to the edge.
        low, high = max(span[0], bottom), min(span[2], top)
        axes.errorbar(
            point.ms[1], middle,
            xerr=[[max(0.0, point.ms[1] - point.ms[0])], [max(0.0, point.ms[2] - point.ms[1])]],
            yerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]],
            color=tone, linewidth=1.6, capsize=4,
        )  # fmt: skip
        area = 120.0 if metric is None else 60 + 480 * (point.size_bytes or 0) / largest
        axes.scatter([point.ms[1]], [middle], s=area, color=tone, alpha=0.4 if is_grey else 0.85,
                     linewidths=0)  # fmt: skip
    fastest = min(point.ms[0] for point in points)
    slowest = max(point.ms[2] for point in points)
    spread = max(slowest / fastest, 1.2) ** 0.3
    ratio_ticks(axes, fastest / spread, slowest * spread, " ms")
    axes.set_ylim(bottom, top)
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    _name_points(axes, points, grey)
    time_label(axes, counts, "  ←  faster")
    told = "size of the files, MB" if metric is None else literal(metric)
    axes.set_ylabel(told, parse_math=False)
    what = "size" if metric is None else f"{metric}; the area is the size of the files"
    name = "trade-off"
    worse = [point.name for point, is_grey in zip(points, grey, strict=True) if is_grey]
    measures = words.listed(["speed", *([] if metric is None else [metric]), "size"])
    caption = f"Speed against {what}, {where}, with 95 % intervals."
    if worse:
        caption += (
            f" Greyed, since another is decidedly no worse in {measures} and better in one of them:"
            f" {words.listed(worse)}."
        )
    elif not speeds:
        caption += " No speed is decided in this run, so none is called worse."
    else:
        caption += f" None is decidedly beaten in {measures} together."
    caption += " Memory is not part of it."
    return Chart(
        name=name,
        title="What is worth having",
        caption=caption,
        svg=svg(drawn, name, caption),
        header=("model", "p50", "95 % interval", metric or "size", "size", "dominated"),
        rows=tuple(
            (
                point.name,
                words.milliseconds(point.ms[1]),
                f"{words.digits(point.ms[0])} to {words.milliseconds(point.ms[2])}",
                words.size(point.size_bytes)
                if point.quality is None
                else f"{point.quality[1]:.4f}",
                words.size(point.size_bytes),
                "yes" if is_grey else "no",
            )
            for point, is_grey in zip(points, grey, strict=True)
        ),
    )


def _name_points(axes: Axes, points: Sequence[Point], grey: Sequence[bool]) -> None:
    """Write each name beside its point, towards the middle, above or below a name that is near."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    taken: list[tuple[float, float]] = []
    for point, is_grey in sorted(zip(points, grey, strict=True), key=lambda pair: pair[0].ms[1]):
        middle = (point.size_bytes or 0) / 1e6 if point.quality is None else point.quality[1]
        across = math.log(point.ms[1] / left) / math.log(right / left)
        up = (middle - bottom) / (top - bottom)
        at_right = across > 0.5
        # Above, below, further above…: the nearest place that no other name has taken.
        steps = [0.06 * step for step in range(len(points))]
        places = [place for step in steps for place in (0.03 + step, -0.07 - step)]
        free = [
            place for place in places
            if 0 < up + place < 0.97
            and all(abs(up + place - y) > 0.055 or abs(across - x) > 0.45 for x, y in taken)
        ]  # fmt: skip
        shift = free[0] if free else places[0]
        taken.append((across, up + shift))
        name = literal(point.name if len(point.name) <= 26 else f"{point.name[:25]}…")
        axes.text(
            across + (-0.03 if at_right else 0.03), up + shift, name, transform=axes.transAxes,
            color=MUTED if is_grey else INK, fontsize=TEXT, ha="right" if at_right else "left",
            parse_math=False,
        )  # fmt: skip
