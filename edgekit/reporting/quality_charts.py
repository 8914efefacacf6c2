"""Pictures of a validation: the drop against its budget, the layers' errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.core.measurements import Accuracy, LayerError
from edgekit.reporting import words
from edgekit.reporting.drawing import (
    BAD,
    BAND,
    GOOD,
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
    svg,
)

_LAYERS = 15
# No quantized tensor is nearer to its reference than this; an exact one has an infinite ratio.
_MOST_DB = 120.0
#: Per cent beyond which an end of an interval is as good as none: an axis that shows it shows
#: nothing else.
FAR = 1e6


def drop(
    accuracy: Accuracy,
    limit: float | None,
    where: str = "in PyTorch",
    made: str = "in the bundle",
) -> Chart:
    """The drop's 95 % interval, the budget's line and the room that it leaves.

    An end without a bound runs out of the picture as an arrow. `where` is where the original ran,
    `made` where what was made of it did.
    """
    low, value, high = (
        bound * 100 for bound in (accuracy.drop_lower_95, accuracy.drop, accuracy.drop_upper_95)
    )
    if limit is not None and not abs(limit * 100) < FAR:
        limit = None
    known = [end for end in (low, value, high) if abs(end) < FAR]
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
    bar = [low if abs(low) < FAR else left, high if abs(high) < FAR else right]
    axes.plot(bar, [0, 0], color=tone, linewidth=7, solid_capstyle="butt", alpha=0.55)
    for end, at, mark in ((low, left, "<"), (high, right, ">")):
        if not abs(end) < FAR:
            axes.plot(at, 0, mark, color=tone, markersize=13, clip_on=False)
    if abs(value) < FAR:
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
        f"{where[:1].upper()}{where[1:]} {accuracy.metric} is {before}, {made} {after}: a"
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
