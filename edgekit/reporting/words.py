"""How a report says values: times, sizes, ratios, workloads, each the same way everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from edgekit.core.measurements import (
    LEAST_SAMPLES,
    Accuracy,
    Comparison,
    Contender,
    Interval,
    Latency,
    Noise,
    Ratio,
)

#: What stands for a value that was not measured.
NONE = "–"
#: What stands for the end of an interval that has none.
OPEN_END = "no bound"
#: What a run on a noisy machine says of a speed, whatever its interval.
UNDECIDED = "not decided (noisy machine)"
#: What a ratio of models that generate compares.
MEASURES: Mapping[str, str] = {
    "request": "request", "first_token": "first token", "token": "each token after it",
}  # fmt: skip
#: What stands under a table of tokens.
ABOUT_TOKENS = (
    "Prompts are tokens already, and all answers have as many of them, greedily; tokens/s: those"
    " after the first, of all rows together; peak RSS: above the imports, with this length alone."
)
# Keeps a number and its unit on one line.
_JOIN = "\N{NO-BREAK SPACE}"


def original(reference: Mapping[str, object]) -> str:
    """Where the reference ran, for a sentence: in PyTorch, or an imported model as it is."""
    return "as imported" if reference.get("kind") == "onnx" else "in PyTorch"


def milliseconds(value: float | None) -> str:
    """A time with three significant digits, in ms below ten seconds and in s above."""
    if value is None or not math.isfinite(value):
        return NONE
    unit, shown = ("s", value / 1000) if value >= 10_000 else ("ms", value)
    return f"{digits(shown)}{_JOIN}{unit}"


def digits(value: float | None, count: int = 3) -> str:
    """A number with so many significant digits, never in powers of ten below a million."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size > 6:
        return f"{value:.{count - 1}e}"
    return f"{value:,.{max(0, count - 1 - size)}f}".replace("-", "−")


def times(value: float) -> str:
    """A ratio, such as 3.10×."""
    return f"{digits(value)}×" if math.isfinite(value) else NONE


def interval(value: Interval | Ratio) -> str:
    """The 95 % interval of a ratio in words."""
    return _between(
        *(times(end) if math.isfinite(end) else None for end in (value.low, value.high))
    )


def comparison(verdict: Comparison, *, noisy: bool) -> str:
    """The verdict on a speed as it is told: what a noisy run resolved, it has not decided."""
    return UNDECIDED if noisy and verdict != "not resolved" else verdict


def resolved(speed: Interval | Ratio) -> Comparison:
    """What an interval says of a speed: above 1 it is faster."""
    return "faster" if speed.low > 1 else "slower" if speed.high < 1 else "not resolved"


def bracketed(speed: Interval | Ratio, *, noisy: bool) -> str:
    """The interval of a speed, with what keeps it from being a fact, for the inside of brackets."""
    told = comparison(resolved(speed), noisy=noisy)
    why = {"not resolved": ", not resolved", UNDECIDED: ", not decided: noisy machine"}
    return f"{interval(speed)}{why.get(told, '')}"


def foretold(predicted: float, measured: Latency | None) -> str:
    """How far a foretold speed lies from the measured one; empty where none was measured."""
    if measured is None or not 0 < measured.speedup.value < math.inf:
        return ""
    off = predicted / measured.speedup.value - 1
    if abs(off) < 0.001:
        return "as measured"
    return f"{share(abs(off))} {'above' if off > 0 else 'below'} what was measured"


def turn_by_turn(*, offline: bool = False) -> str:
    """Why a ratio is not the quotient of the figures that stand beside it."""
    of = "throughputs" if offline else "medians"
    return f"A ratio compares turn with turn: it need not be the quotient of the two {of}."


def _between(low: str | None, high: str | None) -> str:
    if low is None and high is None:
        return OPEN_END
    return f"{low or OPEN_END} to {high or OPEN_END}"


def size(count: int | float | None) -> str:
    """Bytes in decimal units, as disks and registries give them."""
    if count is None:
        return NONE
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f}{_JOIN}B" if unit == "B" else f"{digits(amount)}{_JOIN}{unit}"


def hundredths(value: float, unit: str, *, sign: bool = False) -> str:
    """A drop: per cent of the reference's metric, or points of 0.01."""
    amount = value * 100
    if not math.isfinite(amount):
        return NONE
    # Of a metric near nothing a relative drop may have any number of digits.
    form = ".2f" if abs(amount) < 1e9 else ".1e"
    text = format(round(amount, 2) + 0.0, f"+{form}" if sign else form)
    return text.replace("-", "−") + (" %" if unit == "relative" else " points")


def bounds(accuracy: Accuracy) -> str:
    """The 95 % interval of a drop in words; an end that nothing bounds is called so."""
    unit = accuracy.drop_unit
    low, high = (
        hundredths(end, unit) if math.isfinite(end * 100) else None
        for end in (accuracy.drop_lower_95, accuracy.drop_upper_95)
    )
    return _between(low, high)


def drop(accuracy: Accuracy) -> str:
    """``0.12 % of the original's, 95 % interval −0.10 % to 0.30 %``, or the same in points."""
    of = " of the original's" if accuracy.drop_unit == "relative" else ""
    return f"{hundredths(accuracy.drop, accuracy.drop_unit)}{of}, 95 % interval {bounds(accuracy)}"


def metric(value: float, places: int = 4) -> str:
    """A metric's value."""
    return f"{value:.{places}f}" if math.isfinite(value) else NONE


def general(value: float | None, form: str) -> str:
    """A number in Python's format `form`; what is none, or infinite, is no value."""
    return NONE if value is None or not math.isfinite(value) else format(value, form)


def share(value: float) -> str:
    """A share as per cent."""
    return NONE if not math.isfinite(value) else f"{value * 100:.2f} %"


def workload(batch: int, length: int | Literal["data"] | None) -> str:
    """A workload as people write it: 1 × 128."""
    if length is None:
        return f"batch {batch}"
    if length == "data":
        return f"{batch}{_JOIN}×{_JOIN}lengths of the data"
    return f"{batch}{_JOIN}×{_JOIN}{length}"


def ran_at(batch: object, length: object, threads: object) -> str:
    """A workload with its threads, as far as they are known: ``1 × 128, 2 threads``."""
    parts: list[str] = []
    if isinstance(batch, int):
        parts.append(workload(batch, length if isinstance(length, int) else _natural(length)))
    if isinstance(threads, int):
        parts.append(counted(threads, "thread"))
    return ", ".join(parts)


def _natural(length: object) -> Literal["data"] | None:
    return "data" if length == "data" else None


def noise(found: Noise) -> list[str]:
    """How quiet the machine was while something was timed, and what disturbed it, in lines."""
    known = f"The machine was {found.verdict}."
    if found.aa_ratio is not None and found.aa_low is not None and found.aa_high is not None:
        known = (
            f"A/A: {found.aa_ratio:.3f} ({found.aa_low:.3f}–{found.aa_high:.3f});"
            f" the machine was {found.verdict}."
        )
    return [known, *(f"  {cause}" for cause in found.causes)]


def disturbed(found: Noise) -> str:
    """What disturbed a noisy machine, for the end of a sentence: `` (…)``, or nothing."""
    return f" ({'; '.join(found.causes)})" if found.causes else ""


def scenario(protocol: Mapping[str, object]) -> str:
    """How requests came, where it was not one after the other; empty where it was."""
    name = protocol.get("scenario")
    qps, pause, streams = (protocol.get(key) for key in ("qps", "interval", "streams"))
    if name == "server":
        return "server" + (f", {qps:g} requests/s" if isinstance(qps, (int, float)) else "")
    if name == "sparse":
        return "sparse" + (
            f", a request every {pause:g} s" if isinstance(pause, (int, float)) else ""
        )
    if name == "offline":
        return "offline" + (f", {counted(streams, 'stream')}" if isinstance(streams, int) else "")
    return ""


def time_of(protocol: Mapping[str, object]) -> str:
    """What a latency of a run counts."""
    if protocol.get("scenario") == "server":
        return "waiting + prediction, from the scheduled arrival"
    return "time of one prediction"


def untold_percentiles(rows: Sequence[Contender]) -> str | None:
    """Why a percentile is a dash, where samples are what it lacks; else None."""
    lacking = any(
        row.p50_ms is not None and value is None and row.samples < LEAST_SAMPLES[q]
        for row in rows
        for q, value in ((0.9, row.p90_ms), (0.95, row.p95_ms), (0.99, row.p99_ms))
    )
    least = ", ".join(f"p{q * 100:g} takes {LEAST_SAMPLES[q]}" for q in (0.9, 0.95, 0.99))
    return f"{NONE}: too few samples to tell it ({least})." if lacking else None


def wide_medians(rows: Sequence[Contender]) -> str | None:
    """Why the interval of a median reaches beyond the p90 beside it, where one does; else None."""
    wide = [
        row
        for row in rows
        if row.p50_high_ms is not None and row.p90_ms is not None and row.p50_high_ms > row.p90_ms
    ]
    if not wide:
        return None
    names = listed(list(dict.fromkeys(row.name for row in wide)))
    count = min(row.processes for row in wide)
    return (
        f"The interval of the median reaches beyond p90 for {names}: fresh processes differed by"
        f" more than the times within one, and {count} processes cannot bound that. More"
        " --processes narrow it."
    )


def about_times(rows: Sequence[Contender]) -> tuple[str, ...]:
    """What a reader of a table of times should know, in sentences."""
    return tuple(
        told for told in (untold_percentiles(rows), wide_medians(rows)) if told is not None
    )


def timed_part(protocol: Mapping[str, object]) -> str | None:
    """How much of its budget a run has timed, where that ended it; else None."""
    budget, timed = protocol.get("budget_seconds"), protocol.get("measured_seconds")
    if protocol.get("stopped") != "budget":
        return None
    if not isinstance(budget, (int, float)) or not isinstance(timed, (int, float)):
        return None
    told = f"Timed {timed:.1f} of {budget:g} s"
    rounds = protocol.get("rounds")
    if isinstance(rounds, int):
        told += f" in {counted(rounds, 'round')}"
    why = protocol.get("untimed")
    return f"{told}: {why}." if isinstance(why, str) else f"{told}; start-up comes on top."


def of(row: Contender | Ratio) -> str:
    """The workload of a row."""
    return workload(row.batch, row.length)


def counted(number: int, noun: str) -> str:
    """`1 sample`, `1,200 samples`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence: a, b and c."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def processor(device: object) -> str:
    """The machine's processor as its card names it, shortened of what tells nothing."""
    text = str(device or "this machine")
    for noise in ("(R)", "(TM)", "(r)", "(tm)", " CPU", " Processor"):
        text = text.replace(noise, "")
    return " ".join(text.split())
