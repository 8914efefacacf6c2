"""Pictures of a comparison: distributions, ratios, stages and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgekit.core.measurements import Contender, Ratio
from edgekit.reporting import words
from edgekit.reporting.comparing import workloads
from edgekit.reporting.drawing import (
    BAD,
    BAND,
    GOOD,
    GRID,
    INK,
    MUTED,
    PARTS,
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
    time_label,
)

# More rows than this make a picture longer than anybody reads; the table has them all.
_MOST = 24
_STAGES = ("import", "load", "first")

Series = Mapping[str, int]


def series_of(rows: Sequence[Contender]) -> Series:
    """A number for each contender, which decides its colour and line in every picture."""
    return {name: number for number, name in enumerate(dict.fromkeys(row.name for row in rows))}


def distributions(
    rows: Sequence[Contender], series: Series, *, counts: str = "time of one prediction"
) -> list[Chart]:
    """For each workload the share of predictions that took at most so long.

    `counts` says what a latency is made of.
    """
    groups = workloads([row for row in rows if row.ecdf is not None and row.ecdf.ms])
    return [
        _distribution(f"latency-{number}", workload, group, series, counts)
        for number, (workload, group) in enumerate(groups.items(), start=1)
    ]


def _distribution(
    name: str, workload: str, rows: Sequence[Contender], series: Series, counts: str
) -> Chart:
    drawn, (axes,) = figure(3.4)
    low, high = float("inf"), 0.0
    for row in rows:
        if row.ecdf is None:
            continue
        times, shares = row.ecdf.ms, row.ecdf.share
        number = series[row.name]
        axes.step(
            [times[0], *times], [0.0, *(share * 100 for share in shares)], where="post",
            color=colour(number), linestyle=dash(number), linewidth=2,
        )  # fmt: skip
        low = min(low, times[0])
        # The last hundredth of a distribution may be a hundred times longer than all the rest.
        body = [ms for ms, share in zip(times, shares, strict=True) if share <= 0.99]
        high = max(high, (body or list(times))[-1])
        if row.p50_ms is not None:
            axes.plot(row.p50_ms, 50, "o", color=colour(number), markersize=6)
    ratio_ticks(axes, low / 1.08, max(high * 1.08, low * 1.2), " ms")
    axes.set_ylim(0, 101)
    axes.set_yticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    time_label(axes, counts)
    medians = ", ".join(f"{row.name} {words.milliseconds(row.p50_ms)}" for row in rows)
    caption = (
        f"Share of predictions that took at most so long; further left is faster, steeper is"
        f" steadier. Dots are the medians: {medians}."
    )
    return Chart(
        name=name,
        title=f"Latency at {workload}",
        caption=caption,
        svg=svg(drawn, name, f"Distribution of latency at {workload}. Medians: {medians}"),
        header=("contender", "p50", "95 % interval", "p90", "p95", "p99", "samples", "processes"),
        rows=tuple(
            (
                row.name,
                words.milliseconds(row.p50_ms),
                bounds(row),
                words.milliseconds(row.p90_ms),
                words.milliseconds(row.p95_ms),
                words.milliseconds(row.p99_ms),
                f"{row.samples:,}",
                str(row.processes),
            )
            for row in rows
        ),
        legend=tuple(key(row.name, series[row.name]) for row in rows),
        foot=words.about_times(rows),
    )


def bounds(row: Contender) -> str:
    """The 95 % interval of a median."""
    if row.p50_low_ms is None or row.p50_high_ms is None:
        return words.NONE
    return f"{words.digits(row.p50_low_ms)} to {words.milliseconds(row.p50_high_ms)}"


def ratios(found: Sequence[Ratio], *, offline: bool, noisy: bool) -> list[Chart]:
    """For each workload every ratio with its interval, on an axis where 1 is as fast.

    In a `noisy` run none is faster or slower, whatever its interval.
    """
    groups: dict[str, list[Ratio]] = {}
    for row in found:
        groups.setdefault(words.of(row), []).append(row)
    return [
        _ratios(f"ratios-{number}", workload, group, offline=offline, noisy=noisy)
        for number, (workload, group) in enumerate(groups.items(), start=1)
    ]


def _ratios(
    name: str, workload: str, found: Sequence[Ratio], *, offline: bool, noisy: bool
) -> Chart:
    shown = found[:_MOST]
    drawn, (axes,) = figure(0.75 + 0.5 * len(shown))
    ends = [end for row in shown for end in (row.low, row.value, row.high) if drawable(end)]
    low, high = min([1.0, *ends]) / 1.12, max([1.0, *ends]) * 1.12
    ratio_ticks(axes, low, high, "×")
    axes.axvline(1.0, color=INK, linewidth=1)
    tones = {"faster": GOOD, "slower": BAD}
    marks = {"faster": ">", "slower": "<"}
    verdicts = [words.comparison(row.verdict, noisy=noisy) for row in found]
    for place, (row, verdict) in enumerate(zip(shown, verdicts, strict=False)):
        height = -float(place)
        tone = tones.get(verdict, MUTED)
        # An end without a bound runs to the edge of the picture.
        bar = [row.low if drawable(row.low) else low, row.high if drawable(row.high) else high]
        axes.plot(bar, [height, height], color=tone, linewidth=3, solid_capstyle="butt")
        if drawable(row.value):
            axes.plot(row.value, height, marks.get(verdict, "o"), color=tone, markersize=8)
        value = f"{words.times(row.value)} ({_range(row)})"
        heading(axes, height + 0.19, f"{row.b} vs {row.a}", value)
    label = "slower  ←  1× = as fast  →  faster"
    close_rows(axes, len(shown), label, low=low, high=high, top=0.8)
    what = "throughput" if offline else "speed"
    more = f" The table has {len(found) - len(shown)} more." if len(found) > len(shown) else ""
    caption = (
        f"How many times the {what} of the second the first one has, with 95 % intervals."
        f" {_doubt(verdicts)}"
        f" {words.turn_by_turn(offline=offline)}{more}"
    )
    told = "; ".join(
        f"{row.b} {words.times(row.value)} {row.a}, {verdict}"
        for row, verdict in zip(shown, verdicts, strict=False)
    )
    header = ("compared", "against", "ratio", "95 % interval", "verdict", "least resolvable")
    return Chart(
        name=name,
        title=f"Faster or slower at {workload}",
        caption=caption,
        svg=svg(drawn, name, f"Ratios with intervals at {workload}. {told}"),
        header=header,
        rows=tuple(
            (
                row.b,
                row.a,
                words.times(row.value),
                words.interval(row),
                verdict,
                words.times(row.resolvable),
            )
            for row, verdict in zip(found, verdicts, strict=True)
        ),
    )


def _doubt(verdicts: Sequence[str]) -> str:
    if words.UNDECIDED in verdicts:
        return "The machine was noisy: none of them is decided."
    return "An interval that touches 1× is not resolved."


def _range(row: Ratio) -> str:
    if not math.isfinite(row.low) or not math.isfinite(row.high):
        return words.interval(row)
    return f"{words.digits(row.low)}–{words.digits(row.high)}"


def start_up(rows: Sequence[Contender], series: Series) -> Chart | None:
    """What passes before the first answer: imports, loading, first inference, one after another."""
    first = list(
        {
            row.name: row for row in reversed(rows)
            if row.load_ms is not None and row.first_ms is not None
        }.values()
    )[::-1]  # fmt: skip
    if not first:
        return None
    drawn, (axes,) = figure(0.7 + 0.52 * len(first))
    most = max(sum(_stages(row)) for row in first)
    for place, row in enumerate(first):
        left, height = 0.0, -float(place)
        for stage, took in enumerate(_stages(row)):
            axes.barh(height - 0.08, took, left=left, height=0.34, color=PARTS[stage],
                      linewidth=0)  # fmt: skip
            left += took
        heading(axes, height + 0.13, row.name, words.milliseconds(left))
    label = "ms from the start of the process to the first answer"
    close_rows(axes, len(first), label, high=most * 1.02)
    told = "; ".join(f"{row.name} {words.milliseconds(sum(_stages(row)))}" for row in first)
    return Chart(
        name="start-up",
        title="From nothing to the first answer",
        caption=f"Importing, loading the model and the first prediction in turn: {told}.",
        svg=svg(drawn, "start-up", f"Time to the first answer. {told}"),
        header=("contender", "import", "load", "first", "then each"),
        rows=tuple(
            (row.name, *(words.milliseconds(took) for took in _stages(row)),
             words.milliseconds(row.p50_ms))
            for row in first
        ),
        legend=tuple(Key(stage, f"part-{number}") for number, stage in enumerate(_STAGES)),
    )  # fmt: skip


def _stages(row: Contender) -> tuple[float, float, float]:
    return (row.import_ms or 0.0, row.load_ms or 0.0, row.first_ms or 0.0)


def parts(rows: Sequence[Contender]) -> Chart | None:
    """Where the time of one prediction goes: before, in and after the engine."""
    split = [(row, row.stages) for row in rows if row.stages is not None][:_MOST]
    if not split:
        return None
    drawn, (axes,) = figure(0.7 + 0.52 * len(split))
    most = 0.0
    table = []
    for place, (row, stages) in enumerate(split):
        left, height = 0.0, -float(place)
        before = stages.preprocess_ms + (stages.decode_ms or 0.0)
        spent = (before, stages.engine_ms, stages.postprocess_ms)
        for number, took in enumerate(spent):
            axes.barh(height - 0.08, took, left=left, height=0.34, color=PARTS[number],
                      linewidth=0)  # fmt: skip
            left += took
        most = max(most, left)
        name = f"{row.name}, {words.of(row)}"
        heading(axes, height + 0.13, name, words.milliseconds(left))
        table.append((row.name, words.of(row), *(words.milliseconds(took) for took in spent)))
    label = "ms of one prediction, from the text to the answer"
    close_rows(axes, len(split), label, high=most * 1.02)
    return Chart(
        name="parts",
        title="Where one prediction's time goes",
        caption="Pre-processing, the engine and post-processing, medians of each.",
        svg=svg(drawn, "parts", "Parts of one prediction; the numbers are in the table below"),
        header=("contender", "workload", "pre-processing", "engine", "post-processing"),
        rows=tuple(table),
        legend=(
            Key("pre-processing", "part-0"),
            Key("engine", "part-1"),
            Key("post-processing", "part-2"),
        ),
    )


def memory(rows: Sequence[Contender], series: Series) -> Chart | None:
    """The peak of memory of every contender, and the size of its files."""
    peaks: dict[str, tuple[int | None, int | None, int | None]] = {}
    for row in rows:
        before = peaks.get(row.name, (None, None, None))
        now = (row.peak_rss_bytes, row.peak_pss_bytes, row.artifact_bytes)
        peaks[row.name] = (
            _larger(before[0], now[0]), _larger(before[1], now[1]), _larger(before[2], now[2])
        )  # fmt: skip
    peaks = {name: found for name, found in peaks.items() if found[0] is not None}
    if not peaks:
        return None
    drawn, (axes,) = figure(0.7 + 0.55 * len(peaks))
    for place, (name, (peak, _, files)) in enumerate(peaks.items()):
        height = -float(place)
        axes.barh(height, (peak or 0) / 1e6, height=0.2, color=colour(series[name]), linewidth=0)
        axes.barh(height - 0.22, (files or 0) / 1e6, height=0.16, color=BAND, linewidth=0)
        heading(axes, height + 0.13, name, words.size(peak))
    most = max(max(peak or 0, files or 0) for peak, _, files in peaks.values()) / 1e6
    label = "MB: peak of memory (coloured), model files (pale)"
    close_rows(axes, len(peaks), label, high=most * 1.02)
    told = "; ".join(f"{name} {words.size(peak)}" for name, (peak, _, _) in peaks.items())
    return Chart(
        name="memory",
        title="Peak of memory, and the model's files",
        caption=f"Peak of the process above what its imports took: {told}.",
        svg=svg(drawn, "memory", f"Peak memory. {told}"),
        header=("contender", "peak RSS", "peak PSS", "model files"),
        rows=tuple(
            (name, *(words.size(found) for found in sizes)) for name, sizes in peaks.items()
        ),
    )


def _larger(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None
