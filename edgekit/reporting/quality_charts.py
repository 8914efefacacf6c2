"""Pictures of a validation: the drop against its budget, the trade-off, the layers' errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.core.measurements import Accuracy, BenchResult, LayerError, ValidateResult
from edgekit.reporting import words
from edgekit.reporting.drawing import (
    BAD,
    BAND,
    GOOD,
    GRID,
    INK,
    MUTED,
    OPEN,
    TEXT,
    Chart,
    close_rows,
    colour,
    figure,
    heading,
    literal,
    ratio_ticks,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LAYERS = 15
# No quantized tensor is nearer to its reference than this; an exact one has an infinite ratio.
_MOST_DB = 120.0
# Per cent beyond which an end of an interval is as good as none: an axis that shows it shows
# nothing else.
_FAR = 1e6
# A metric beyond it, as the perplexity of a broken model, leaves nothing to compare in a picture.
_LARGEST_METRIC = 1e12


def drop(accuracy: Accuracy, limit: float | None, where: str = "in PyTorch") -> Chart:
    """The drop's 95 % interval, the budget's line and the room that it leaves.

    An end without a bound runs out of the picture as an arrow. `where` is where the original ran.
    """
    low, value, high = (
        bound * 100 for bound in (accuracy.drop_lower_95, accuracy.drop, accuracy.drop_upper_95)
    )
    if limit is not None and not abs(limit * 100) < _FAR:
        limit = None
    known = [end for end in (low, value, high) if abs(end) < _FAR]
    ends = [*known, 0.0, *([] if limit is None else [limit * 100])]
    room = max(max(ends) - min(ends), 0.1) * 0.18
    left, right = min(ends) - room, max(ends) + room
    drawn, (axes,) = figure(1.65)
    tone = INK
    if limit is not None:
        allowed = limit * 100
        # An end that is no number is neither within the budget nor over it.
        tone = GOOD if high <= allowed else BAD if low > allowed else OPEN
        axes.axvspan(left, allowed, color=BAND, alpha=0.45, linewidth=0)
        axes.axvline(allowed, color=INK, linewidth=1.6, linestyle="dashed")
        inside = allowed > (left + right) / 2
        axes.annotate(
            "budget", (allowed, 0.95), xycoords=("data", "axes fraction"), color=INK,
            xytext=(-5 if inside else 5, 0), textcoords="offset points", fontsize=TEXT,
            ha="right" if inside else "left", va="top",
        )  # fmt: skip
    axes.axvline(0, color=MUTED, linewidth=1)
    bar = [low if abs(low) < _FAR else left, high if abs(high) < _FAR else right]
    axes.plot(bar, [0, 0], color=tone, linewidth=7, solid_capstyle="butt", alpha=0.55)
    for end, at, mark in ((low, left, "<"), (high, right, ">")):
        if not abs(end) < _FAR:
            axes.plot(at, 0, mark, color=tone, markersize=13, clip_on=False)
    if abs(value) < _FAR:
        axes.plot(value, 0, "o", color=tone, markersize=11)
    axes.set_xlim(left, right)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    unit = "%" if accuracy.drop_unit == "relative" else "points"
    told = f"better  ←  drop in {literal(accuracy.metric)}, {unit}  →  worse"
    axes.set_xlabel(told, parse_math=False)
    spelled = words.hundredths(accuracy.drop, accuracy.drop_unit)
    bounds = words.bounds(accuracy)
    before, after = words.metric(accuracy.reference), words.metric(accuracy.candidate)
    budget = words.NONE if limit is None else words.hundredths(limit, accuracy.drop_unit)
    caption = (
        f"{where[:1].upper()}{where[1:]} {accuracy.metric} is {before}, in the bundle {after}: a"
        f" drop of {spelled},"
        f" 95 % interval {bounds}, on {words.counted(accuracy.samples, 'sample')}."
    )
    if limit is not None:
        caption += f" The budget is {budget}; it holds when the whole bar lies in the shaded room."
    rows = [
        ("reference", words.general(accuracy.reference, ".6g")),
        ("candidate", words.general(accuracy.candidate, ".6g")),
        ("drop", spelled),
        ("95 % interval", bounds),
        ("budget", budget),
        ("samples", f"{accuracy.samples:,}"),
    ]
    if accuracy.mcnemar_p is not None:
        rows.append(("McNemar's exact p", f"{accuracy.mcnemar_p:.4g}"))
    if accuracy.excluded:
        rows.append(("left out, used by earlier steps", f"{accuracy.excluded:,}"))
    if accuracy.samples_needed:
        rows.append(("samples that would settle it", f"{accuracy.samples_needed:,}"))
    return Chart(
        name="accuracy",
        title=f"Drop in {accuracy.metric}",
        caption=caption,
        svg=svg(drawn, "accuracy", f"Drop of {spelled}, interval {bounds}, budget {budget}"),
        header=("", accuracy.metric),
        rows=tuple(rows),
    )


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
        accuracy.reference - sign * (bound * scale if abs(bound * 100) < _FAR else missing)
        for bound, missing in (
            (accuracy.drop_lower_95, -math.inf), (accuracy.drop_upper_95, math.inf)
        )
    )  # fmt: skip
    name = str(result.bundle.get("name") or "bundle")
    reference = (latency.reference_ms,) * 3
    original = "imported" if result.reference.get("kind") == "onnx" else "pytorch"
    return [
        Point(original, 0, reference, (accuracy.reference,) * 3, result.size.reference_bytes,
              sign),
        Point(name, 1, (low, own, high), (metric[0], accuracy.candidate, metric[1]),
              result.size.candidate_bytes, sign),
    ]  # fmt: skip


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


def dominated(point: Point, others: Sequence[Point]) -> bool:
    """Whether another is no worse in anything and clearly better in one, beyond the intervals."""
    for other in others:
        if other is point or other.ms[1] > point.ms[1]:
            continue
        sizes = (other.size_bytes or 0, point.size_bytes or 0)
        better = other.ms[2] < point.ms[0] or sizes[0] < 0.98 * sizes[1]
        worse = sizes[0] > 1.02 * sizes[1]
        if point.quality is not None and other.quality is not None:
            ours, theirs = (
                sorted(bound * one.direction for bound in one.quality or ())
                for one in (point, other)
            )
            worse = worse or theirs[1] < ours[1]
            better = better or theirs[0] > ours[2]
        if better and not worse:
            return True
    return False


def trade_off(points: Sequence[Point], metric: str | None, where: str) -> Chart | None:
    """Speed against the metric, or without one against size; dominated points are grey."""
    if len(points) < 2:
        return None
    drawn, (axes,) = figure(3.5)
    largest = max(point.size_bytes or 0 for point in points) or 1
    grey = [dominated(point, points) for point in points]
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
    axes.set_xlabel("time of one prediction (logarithmic)  ←  faster")
    told = "size of the files, MB" if metric is None else literal(metric)
    axes.set_ylabel(told, parse_math=False)
    what = "size" if metric is None else f"{metric}; the area is the size of the files"
    best = [point.name for point, is_grey in zip(points, grey, strict=True) if not is_grey]
    name = "trade-off"
    worse = [point.name for point, is_grey in zip(points, grey, strict=True) if is_grey]
    caption = (
        f"Speed against {what}, {where}, with 95 % intervals. Worth having: {words.listed(best)}."
    )
    if worse:
        caption += f" Greyed, since another is better in all: {words.listed(worse)}."
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


def layers(found: Sequence[LayerError]) -> Chart | None:
    """The tensors with the most error, worst first."""
    if not found:
        return None
    ranked = sorted(found, key=_decibels)
    shown = ranked[:_LAYERS]
    drawn, (axes,) = figure(0.7 + 0.42 * len(shown))
    levels = [max(-_MOST_DB, min(_decibels(row), _MOST_DB)) for row in shown]
    for place, (row, level) in enumerate(zip(shown, levels, strict=True)):
        height = -float(place)
        axes.barh(height - 0.1, level, height=0.26, color=colour(1), linewidth=0)
        name = row.tensor if len(row.tensor) <= 42 else f"…{row.tensor[-41:]}"
        heading(axes, height + 0.08, name, _ratio(row, 0))
    label = "worse  ←  signal over error, dB  →  better"
    low, high = min([0.0, *levels]), max([0.0, *(level * 1.05 for level in levels)])
    close_rows(axes, len(shown), label, low=low, high=high)
    told = ", ".join(f"{row.tensor} ({row.operator}) {_ratio(row)}" for row in shown[:3])
    return Chart(
        name="layers",
        title="Where the error arises",
        caption=f"The tensors that differ most from the baseline, worst first: {told}.",
        svg=svg(drawn, "layers", f"Signal over error by tensor. Worst: {told}"),
        header=("tensor", "operator", "signal over error", "max |Δ|"),
        rows=tuple(
            (row.tensor, row.operator, _ratio(row), words.general(row.max_abs, ".3g"))
            for row in ranked
        ),
    )


def _decibels(row: LayerError) -> float:
    """The ratio to sort by: what is no number was lost, and stands before all others."""
    return -math.inf if math.isnan(row.sqnr_db) else row.sqnr_db


def _ratio(row: LayerError, places: int = 1) -> str:
    return f"{row.sqnr_db:.{places}f} dB" if math.isfinite(row.sqnr_db) else "no number"
