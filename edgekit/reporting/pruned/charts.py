"""Pictures of a pruning: what is left, what was foretold, what each structure costs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgekit.core.pruned import PruneResult, SensitivityRow
from edgekit.reporting import words
from edgekit.reporting.deciding import noisy
from edgekit.reporting.drawing import (
    BAD,
    GOOD,
    GRID,
    INK,
    MUTED,
    TEXT,
    Chart,
    Key,
    close_rows,
    colour,
    dash,
    drawable,
    figure,
    heading,
    key,
    ratio_ticks,
    svg,
)
from edgekit.reporting.pruned.headline import less, ran_at, was_cut
from edgekit.reporting.pruned.sensitivity import Cost, by_structure, cost, within

# Series of a layer's parts, in the order of the legend.
_PARTS = ("heads", "neurons")
# Layers beyond so many leave no room for a number under each.
_NUMBERED = 16


def left(result: PruneResult) -> Chart | None:
    """Parameters, operations and time as shares of the original's, one bar below the other."""
    if not was_cut(result):
        return None
    parts = [
        (name, 1 - less(change), f"{change.before:,}", f"{change.after:,}")
        for name, change in (("parameters", result.parameters), ("operations", result.flops))
    ]
    latency = result.latency
    if latency is not None and latency.speedup.value > 0:
        before, after = map(words.milliseconds, (latency.reference_ms, latency.candidate_ms))
        parts.append(("time of one inference", 1 / latency.speedup.value, before, after))
    drawn, (axes,) = figure(0.7 + 0.5 * len(parts))
    for place, (name, share, _, after) in enumerate(parts):
        height = -float(place)
        axes.barh(height - 0.1, 100, height=0.26, color=GRID, linewidth=0)
        axes.barh(height - 0.1, share * 100, height=0.26, color=colour(1), linewidth=0)
        heading(axes, height + 0.08, name, f"{share * 100:.3g} %: {after}")
    widest = max(100.0, *(share * 100 for _, share, _, _ in parts))
    close_rows(axes, len(parts), "per cent of the original's", high=widest)
    told = ", ".join(f"{name} {share * 100:.3g} %" for name, share, _, _ in parts)
    at = ran_at(result)
    caption = (
        f"What is left of the original: {told}. Operations are those of one inference"
        f"{f' at {at}' if at else ''}; a multiplication with its addition counts as two."
    )
    if latency is not None:
        caption += " The time is by the ratio of turns, on the engine of the target."
    return Chart(
        name="left",
        title="What is left",
        caption=caption,
        svg=svg(drawn, "left", f"What is left of the original: {told}"),
        header=("", "original", "pruned", "left"),
        rows=tuple(
            (name, before, after, words.share(share)) for name, share, before, after in parts
        ),
    )


def layers(result: PruneResult) -> Chart | None:
    """What is left of the heads and neurons of every layer, side by side."""
    if not result.layers:
        return None
    shares: dict[str, list[float | None]] = {
        part: [
            change.after / change.before * 100 if change.before else None
            for change in ((row.heads if part == "heads" else row.ffn) for row in result.layers)
        ]
        for part in _PARTS
    }
    shown = [part for part in _PARTS if any(share is not None for share in shares[part])]
    drawn, (axes,) = figure(2.6)
    width = 0.8 / max(1, len(shown))
    for series, part in enumerate(shown):
        tone = colour(series + 1)
        for place, share in enumerate(shares[part]):
            at = place + 1 + (series - (len(shown) - 1) / 2) * width
            # The track tells a layer that is gone from one that has no such part.
            if share is not None:
                axes.bar(at, 100, width=width * 0.86, color=GRID, linewidth=0)
                axes.bar(at, share, width=width * 0.86, color=tone, linewidth=0)
    count = len(result.layers)
    axes.set_xlim(0.4, count + 0.6)
    axes.set_ylim(0, 104)
    every = -(-count // _NUMBERED)
    axes.set_xticks(range(1, count + 1, every))
    axes.set_yticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(False, axis="x")
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    axes.set_xlabel("layer of the original")
    gone = [place for place, row in enumerate(result.layers, start=1) if not row.kept]
    told = (
        f"Layers that are gone: {words.listed([str(place) for place in gone])}."
        if gone
        else "No layer is gone."
    )
    return Chart(
        name="layers-left",
        title="Where it was cut",
        caption=f"What is left of every layer's {words.listed(shown)}. {told}",
        svg=svg(drawn, "layers-left", f"What is left by layer. {told}"),
        header=("layer", *shown),
        rows=tuple(
            (row.name, *(_percent(shares[part][place]) for part in shown))
            for place, row in enumerate(result.layers)
        ),
        legend=tuple(Key(part, f"series-{series + 1}") for series, part in enumerate(shown)),
    )


def foretold(result: PruneResult) -> Chart | None:
    """The speed of the latency table beside the one that was measured, and the goal."""
    latency, predicted = result.latency, result.predicted_speedup
    if latency is None or predicted is None or not predicted > 0:
        return None
    speed = latency.speedup
    wanted = result.goal.get("speedup")
    goal = float(wanted) if isinstance(wanted, (int, float)) else None
    ends = [end for end in (1.0, predicted, speed.low, speed.value, speed.high) if drawable(end)]
    ends += [goal] if goal is not None and drawable(goal) else []
    low, high = min(ends) / 1.08, max(ends) * 1.08
    drawn, (axes,) = figure(1.75)
    ratio_ticks(axes, low, high, "×")
    axes.axvline(1.0, color=INK, linewidth=1)
    verdict = words.comparison(words.resolved(speed), noisy=noisy(result.noise))
    tone = {"faster": GOOD, "slower": BAD}.get(verdict, MUTED)
    axes.plot(predicted, 0, "D", color=colour(1), markersize=8)
    heading(axes, 0.19, "foretold by the latency table", words.times(predicted))
    bar = [speed.low if drawable(speed.low) else low, speed.high if drawable(speed.high) else high]
    axes.plot(bar, [-1, -1], color=tone, linewidth=3, solid_capstyle="butt")
    if drawable(speed.value):
        axes.plot(speed.value, -1, "o", color=tone, markersize=8)
    heading(axes, -0.81, "measured", f"{words.times(speed.value)} ({words.interval(speed)})")
    if goal is not None and drawable(goal):
        axes.axvline(goal, color=INK, linewidth=1.6, linestyle="dashed", zorder=0.5)
    close_rows(axes, 2, "times the original's speed", low=low, high=high, top=0.8)
    off = words.foretold(predicted, latency)
    caption = (
        f"The latency table foretold {words.times(predicted)}, {off}: {words.times(speed.value)}"
        f" ({words.bracketed(speed, noisy=noisy(result.noise))})"
        f"{f' on {result.engine} at {ran_at(result)}' if ran_at(result) else ''}."
    )
    if goal is not None:
        caption += f" The dashed line is the goal, {words.times(goal)}."
    rows = [
        ("foretold", words.times(predicted), words.NONE),
        ("measured", words.times(speed.value), words.interval(speed)),
    ]
    if goal is not None:
        rows.append(("goal", words.times(goal), words.NONE))
    return Chart(
        name="foretold",
        title="Foretold and measured speed",
        caption=caption,
        svg=svg(drawn, "foretold", caption),
        header=("", "times the original", "95 % interval"),
        rows=tuple(rows),
        foot=(f"Foretold is {off}.",) if off else (),
    )


def sensitivity(result: PruneResult) -> list[Chart]:
    """What each structure costs by the share that is cut, and by the speed that is foretold."""
    rows = result.sensitivity
    if not rows:
        return []
    measure = cost(rows)
    found = [_by_share(rows, measure)]
    if all(row.speedup is not None and row.speedup > 0 for row in rows):
        found.append(_by_speed(rows, measure))
    return found


def _by_share(rows: Sequence[SensitivityRow], measure: Cost) -> Chart:
    told: list[str] = []
    for structure, own in by_structure(rows).items():
        row = within(own, measure) or own[-1]
        deepest = row is own[-1] and within(own, measure) is None
        lead = f"{structure} cut by {row.ratio * 100:.3g} %"
        told.append(f"{lead}{' (the deepest)' if deepest else ''}: {_said(row, measure)}")
    what = f"What is {measure.name}" if measure.counted else f"The {measure.name}"
    caption = (
        f"{what} by the share of a structure's parameters that is cut, each cut alone and mended by"
        f" least squares at most{'' if measure.counted else '; less is better'}. {_sentence(told)}"
    )
    return _lines(
        rows, measure, "sensitivity", "By the share that is cut", caption,
        across=lambda row: row.ratio * 100, start=0.0, label="share of the structure cut, %",
    )  # fmt: skip


def _by_speed(rows: Sequence[SensitivityRow], measure: Cost) -> Chart:
    told = [
        f"{structure} reaches {words.times(max(_speed(row) for row in own))}"
        for structure, own in by_structure(rows).items()
    ]
    caption = (
        "The same cuts by the speed that the latency table foretells for them: the higher line"
        f" {'is the cheaper way to a speed' if measure.counted else 'is the dearer way to a speed'}"
        f". {_sentence(told)}"
    )
    return _lines(
        rows, measure, "sensitivity-speed", "By the speed that is foretold", caption,
        across=_speed, start=1.0, label="times the original's speed, foretold",
    )  # fmt: skip


def _lines(
    rows: Sequence[SensitivityRow],
    measure: Cost,
    name: str,
    title: str,
    caption: str,
    *,
    across: Callable[[SensitivityRow], float],
    start: float,
    label: str,
) -> Chart:
    """A line for each structure, from the original at `start` on."""
    drawn, (axes,) = figure(3.1)
    structures = by_structure(rows)
    for series, own in enumerate(structures.values(), start=1):
        points = sorted(
            (across(row), measure.of(row) * measure.unit)
            for row in own
            if math.isfinite(measure.of(row))
        )
        xs, ys = zip((start, measure.whole * measure.unit), *points, strict=True)
        axes.plot(xs, ys, marker="o", markersize=6, color=colour(series), linestyle=dash(series),
                  linewidth=2)  # fmt: skip
    axes.axhline(measure.whole * measure.unit, color=MUTED, linewidth=1)
    axes.annotate(
        "original", (0.99, measure.whole * measure.unit), xycoords=("axes fraction", "data"),
        xytext=(0, 4), textcoords="offset points", color=MUTED, fontsize=TEXT, ha="right",
        va="bottom",
    )  # fmt: skip
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    # Room above the line of the original for its name.
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, measure.whole * measure.unit + 0.12 * (high - low)))
    axes.set_xlabel(label)
    axes.set_ylabel(f"{measure.name}, %" if measure.counted else measure.name)
    return Chart(
        name=name,
        title=title,
        caption=caption,
        svg=svg(drawn, name, caption),
        header=("structure", "cut", "foretold", measure.name),
        rows=tuple(
            (
                row.structure,
                _percent(row.ratio * 100),
                words.NONE if row.speedup is None else words.times(row.speedup),
                measure.said(measure.of(row)),
            )
            for row in rows
        ),
        legend=tuple(key(one, series) for series, one in enumerate(structures, start=1)),
    )


def _said(row: SensitivityRow, measure: Cost) -> str:
    return f"{measure.said(measure.of(row))}{f' {measure.name}' if measure.counted else ''}"


def _sentence(told: Sequence[str]) -> str:
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _speed(row: SensitivityRow) -> float:
    return math.nan if row.speedup is None else row.speedup


def _percent(share: float | None) -> str:
    return words.NONE if share is None or not math.isfinite(share) else f"{share:.3g} %"
