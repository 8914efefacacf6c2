"""The first ten seconds of a report: better or worse, by how much, on what, how sure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Contender,
    Gate,
    Latency,
    Ratio,
    ValidateResult,
)
from edgekit.reporting import words
from edgekit.reporting.reading import NOT_RUN

Tone = Literal["good", "bad", "open", "plain"]

#: The gate that stands for ``--max-drop``.
DROP_GATE = "max_drop"
#: The gate of a validation without data: how far an output lies from the original's.
TOLERANCE_GATE = "tolerance"
_VERDICTS: Mapping[str, tuple[str, Tone]] = {
    "pass": ("Pass", "good"),
    "fail": ("Fail", "bad"),
    "inconclusive": ("Inconclusive", "open"),
}


@dataclass(frozen=True)
class KeyFigure:
    """One number that a reader takes along."""

    label: str
    value: str
    detail: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Headline:
    """The verdict, the sentence under it, what was missed, and the figures it rests on."""

    badge: str
    tone: Tone
    title: str
    sentence: str
    reasons: tuple[str, ...]
    figures: tuple[KeyFigure, ...]


def headline(result: BenchResult | ValidateResult) -> Headline:
    """What stands on top of the report of a result."""
    return _compared(result) if isinstance(result, BenchResult) else _judged(result)


def allowed_drop(result: ValidateResult) -> float | None:
    """The budget of the drop, in the drop's own unit; None where the result does not tell."""
    for gate in result.gates:
        if gate.name == DROP_GATE:
            return gate.limit
    accuracy = result.accuracy
    if accuracy is None or result.command is None:
        return None
    try:
        spelled = shlex.split(result.command)
    except ValueError:
        return None
    text = "1%"
    for word, following in zip(spelled, [*spelled[1:], ""], strict=True):
        if word == "--max-drop":
            text = following
        elif word.startswith("--max-drop="):
            text = word.partition("=")[2]
    unit = {"%": "relative", "pt": "points"}.get(text.lstrip("0123456789. "))
    if unit != accuracy.drop_unit:
        return None
    try:
        return float(text.rstrip("%pt ")) / 100
    except ValueError:
        return None


def gate_values(gate: Gate, unit: str = "relative") -> tuple[str, str]:
    """(limit, measured) of a gate, each with its unit."""

    def said(value: float | None) -> str:
        if value is None:
            return words.NONE
        if gate.name == DROP_GATE:
            return words.hundredths(value, unit)
        if gate.name == TOLERANCE_GATE:
            return words.digits(value)
        if gate.name in ("not_slower", "min_speedup"):
            return words.times(value)
        return f"{words.digits(value)} {'ms' if gate.name.endswith('_ms') else 'MB'}"

    return said(gate.limit), said(gate.value)


def _judged(result: ValidateResult) -> Headline:
    badge, tone = _VERDICTS[result.verdict]
    name = str(result.bundle.get("name") or "The bundle")
    accuracy, latency = result.accuracy, result.latency
    parts = [] if accuracy is None else [_about_accuracy(accuracy)]
    if latency is not None:
        parts.append(_about_speed(latency))
    ratio = result.size.ratio
    if math.isfinite(ratio):
        parts.append(
            "is as large"
            if 0.995 <= ratio <= 1.005
            else f"has {words.digits(ratio * 100)} % of the size"
        )
    parts = parts or ["was judged"]
    against = str(result.reference.get("id") or "the original")
    where = [] if accuracy is None else [words.counted(accuracy.samples, "sample")]
    where.append(words.processor(result.device.get("cpu")))
    against += f" {words.original(result.reference)}"
    sentence = f"{name} {words.listed(parts)}, against {against}; {', '.join(where)}."
    if accuracy is None:
        sentence += (
            " No data was given: the verdict rests on how close the outputs lie, and on the gates."
        )
    return Headline(badge, tone, name, sentence, _reasons(result), _figures(result))


def _about_accuracy(accuracy: Accuracy) -> str:
    unit = accuracy.drop_unit
    bounds = f"95 % interval {words.bounds(accuracy)}"
    if not math.isfinite(accuracy.drop):
        return f"has no drop in {accuracy.metric} that can be told ({bounds})"
    if round(accuracy.drop * 100, 2) == 0:
        return f"keeps its {accuracy.metric} (drop 0, {bounds})"
    verb = "loses" if accuracy.drop > 0 else "gains"
    return f"{verb} {words.hundredths(abs(accuracy.drop), unit)} of {accuracy.metric} ({bounds})"


def _about_speed(latency: Latency) -> str:
    speed = latency.speedup
    if speed.low > 1:
        return f"is {words.times(speed.value)} as fast ({words.interval(speed)})"
    if speed.high < 1:
        return f"is slower, {words.times(speed.value)} as fast ({words.interval(speed)})"
    return f"is about as fast ({words.interval(speed)}, not resolved)"


def _reasons(result: ValidateResult) -> tuple[str, ...]:
    found = []
    accuracy, limit = result.accuracy, allowed_drop(result)
    unit = "relative" if accuracy is None else accuracy.drop_unit
    known = any(gate.name == DROP_GATE for gate in result.gates)
    if accuracy is not None and limit is not None and not known:
        allowed = words.hundredths(limit, unit)
        if accuracy.drop_lower_95 > limit:
            found.append(f"The drop is over the budget of {allowed}.")
        # An upper end that is no number bounds nothing either.
        elif not accuracy.drop_upper_95 <= limit:
            found.append(f"The drop is not proved to be within the budget of {allowed}.")
    for gate in result.gates:
        if gate.passed is True:
            continue
        said, value = gate_values(gate, unit)
        word = "missed" if gate.passed is False else "not decided"
        found.append(f"{gate.name} was {word}: limit {said}, measured {value}.")
    if accuracy is not None and accuracy.samples_needed and result.verdict == "inconclusive":
        found.append(f"About {accuracy.samples_needed:,} samples would settle the accuracy.")
    if result.timing is not None and result.timing.noise.verdict == "noisy":
        found.append("The machine was noisy while it was timed.")
    found += [note for note in result.notes if note.startswith(NOT_RUN)]
    return tuple(found)


def _figures(result: ValidateResult) -> tuple[KeyFigure, ...]:
    found = []
    accuracy, latency, size = result.accuracy, result.latency, result.size
    if accuracy is not None:
        found.append(
            KeyFigure(
                f"Drop in {accuracy.metric}",
                words.hundredths(accuracy.drop, accuracy.drop_unit),
                f"{words.metric(accuracy.reference)} → {words.metric(accuracy.candidate)},"
                f" {_at_most(accuracy)}",
                _drop_tone(accuracy, allowed_drop(result)),
            )
        )
    if latency is not None:
        tone: Tone = "good" if latency.speedup.low > 1 else "plain"
        found.append(
            KeyFigure(
                "Speed",
                words.times(latency.speedup.value),
                f"{words.milliseconds(latency.reference_ms)} →"
                f" {words.milliseconds(latency.candidate_ms)},"
                f" {words.interval(latency.speedup)}",
                "bad" if latency.speedup.high < 1 else tone,
            )
        )
    found.append(
        KeyFigure(
            "Size",
            words.size(size.candidate_bytes),
            f"of {words.size(size.reference_bytes)} {words.original(result.reference)}",
            "good" if size.ratio < 0.95 else "plain",
        )
    )
    memory = _memory(result.timing)
    if memory is not None:
        found.append(memory)
    return tuple(found)


def _at_most(accuracy: Accuracy) -> str:
    if not math.isfinite(accuracy.drop_upper_95):
        return words.OPEN_END
    return f"at most {words.hundredths(accuracy.drop_upper_95, accuracy.drop_unit)}"


def _drop_tone(accuracy: Accuracy, limit: float | None) -> Tone:
    if limit is None:
        return "plain"
    if accuracy.drop_upper_95 <= limit:
        return "good"
    return "bad" if accuracy.drop_lower_95 > limit else "open"


def _memory(timing: BenchResult | None) -> KeyFigure | None:
    if timing is None or not timing.contenders:
        return None
    own, first = timing.contenders[-1], timing.contenders[0]
    if own.peak_rss_bytes is None:
        return None
    beside = "peak above the imports"
    if first is not own and first.peak_rss_bytes is not None:
        beside = f"peak; {words.size(first.peak_rss_bytes)} in {first.name}"
    return KeyFigure("Memory", words.size(own.peak_rss_bytes), beside)


def _compared(result: BenchResult) -> Headline:
    timed = [row for row in result.contenders if row.p50_ms is not None]
    failed = [row for row in result.contenders if row.error is not None]
    reasons = [f"{row.name} at {words.of(row)}: {row.error}" for row in failed]
    noisy = result.noise.verdict == "noisy"
    if noisy:
        reasons.append(f"The machine was noisy: {'; '.join(result.noise.causes) or 'unknown why'}.")
    where = words.processor(result.device.get("cpu"))
    groups = workloads(timed)
    best = {key: min(rows, key=_typical) for key, rows in groups.items()}
    winners = {row.name for row in best.values()}
    figures = tuple(_winner(result.ratios, row, noisy=noisy) for row in list(best.values())[:4])
    if not timed:
        return Headline("Nothing measured", "bad", "Comparison", f"On {where}.", tuple(reasons), ())
    several = len({row.name for row in timed}) > 1
    if not several:
        row = timed[0]
        sentence = f"{row.name} takes {words.milliseconds(row.p50_ms)} at {words.of(row)}"
        title = row.name
    else:
        facts = [_against(result.ratios, row) for row in best.values()]
        title = next(iter(winners)) if len(winners) == 1 else "Comparison"
        who = title if len(winners) == 1 else "The fastest differs by workload:"
        many = len(winners) > 1
        told = [f"{row.name} {fact}" if many else fact
                for row, fact in zip(best.values(), facts, strict=True)]  # fmt: skip
        verb = "" if many else "is the quickest: "
        sentence = f"{who} {verb}{words.listed(told)}"
    sentence += f"; {where}, {'a noisy' if noisy else 'a quiet'} machine."
    word: tuple[str, Tone] = ("Noisy", "open") if noisy else ("Measured", "good")
    if failed:
        word = ("Incomplete", "bad")
    return Headline(word[0], word[1], title, sentence, tuple(reasons), figures)


def workloads(rows: list[Contender]) -> dict[str, list[Contender]]:
    """The rows by workload, in their order."""
    groups: dict[str, list[Contender]] = {}
    for row in rows:
        groups.setdefault(words.of(row), []).append(row)
    return groups


def _typical(row: Contender) -> float:
    return float("inf") if row.p50_ms is None else row.p50_ms


def _ratio_to(ratios: tuple[Ratio, ...], row: Contender) -> Ratio | None:
    """The ratio of a row to what stands first at its workload, which is the reference if any."""
    at = [one for one in ratios if words.of(one) == words.of(row)]
    return next((one for one in at if one.b == row.name), None)


def _against(ratios: tuple[Ratio, ...], row: Contender) -> str:
    ratio = _ratio_to(ratios, row)
    if ratio is None:
        return f"{words.milliseconds(row.p50_ms)} at {words.of(row)}"
    unsure = "" if ratio.verdict != "not resolved" else ", not resolved"
    return (
        f"{words.times(ratio.value)} as fast as {ratio.a} at {words.of(row)}"
        f" ({words.interval(ratio)}{unsure})"
    )


def _winner(ratios: tuple[Ratio, ...], row: Contender, *, noisy: bool) -> KeyFigure:
    ratio = _ratio_to(ratios, row)
    label = f"Quickest at {words.of(row)}"
    if ratio is None:
        return KeyFigure(label, words.milliseconds(row.p50_ms), row.name)
    tone: Tone = "good" if ratio.verdict == "faster" and not noisy else "plain"
    detail = (
        f"{row.name}: {words.times(ratio.value)} as fast as {ratio.a} ({words.interval(ratio)})"
    )
    return KeyFigure(label, words.milliseconds(row.p50_ms), detail, tone)
