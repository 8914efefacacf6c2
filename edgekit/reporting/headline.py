"""The first ten seconds of a report: better or worse, by how much, on what, how sure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Gate,
    Interval,
    Latency,
    ValidateResult,
)
from edgekit.reporting import words
from edgekit.reporting.comparing import compared
from edgekit.reporting.deciding import noisy
from edgekit.reporting.figures import Headline, KeyFigure, Tone
from edgekit.reporting.reading import NOT_RUN

#: The gate that stands for ``--max-drop``.
DROP_GATE = "max_drop"
#: The gate of a validation without data: how far an output lies from the original's.
TOLERANCE_GATE = "tolerance"
_VERDICTS: Mapping[str, tuple[str, Tone]] = {
    "pass": ("Pass", "good"),
    "fail": ("Fail", "bad"),
    "inconclusive": ("Inconclusive", "open"),
}


def headline(result: BenchResult | ValidateResult) -> Headline:
    """What stands on top of the report of a result."""
    return compared(result) if isinstance(result, BenchResult) else _judged(result)


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


def gate_values(gate: Gate, result: ValidateResult) -> tuple[str, str]:
    """(limit, measured) of a gate, each with its unit.

    Of what has an interval with the end that is judged: the bad one, of a miss the good one.
    """
    unit = "relative" if result.accuracy is None else result.accuracy.drop_unit

    def said(value: float | None) -> str:
        if value is None:
            return words.NONE
        if gate.name == DROP_GATE:
            return words.hundredths(value, unit)
        if gate.name == TOLERANCE_GATE:
            return words.digits(value)
        if gate.name in _SPEED_GATES:
            return words.times(value)
        return f"{words.digits(value)} {'ms' if gate.name.endswith('_ms') else 'MB'}"

    measured = said(gate.value)
    ends = _ends(gate, result)
    if ends is None or gate.value is None:
        return said(gate.limit), measured
    # Of a speed little is bad, of all else much. Where not all of an interval is beyond 1, that a
    # bundle is not slower rests on its good end alone.
    rests = gate.name == "not_slower" and gate.limit is not None and ends.low < gate.limit
    upper = (gate.name in _SPEED_GATES) == (gate.passed is False) or rests
    end = ends.high if upper else ends.low
    if not math.isfinite(end):
        measured += f", {words.OPEN_END}"
    elif said(end) != measured:
        measured += f", {'at most' if upper else 'at least'} {said(end)}"
    return said(gate.limit), measured


_SPEED_GATES = ("not_slower", "min_speedup")


def _ends(gate: Gate, result: ValidateResult) -> Interval | None:
    """The interval of what a gate limits; None of what has none."""
    accuracy, latency = result.accuracy, result.latency
    if gate.name == DROP_GATE and accuracy is not None:
        return Interval(accuracy.drop, accuracy.drop_lower_95, accuracy.drop_upper_95)
    if latency is None:
        return None
    if gate.name in _SPEED_GATES:
        return latency.speedup
    low, high = latency.candidate_low_ms, latency.candidate_high_ms
    if gate.name == "max_latency_ms" and low is not None and high is not None:
        return Interval(latency.candidate_ms, low, high)
    return None


def on_time(gate: Gate) -> bool:
    """Whether a gate limits what a noisy machine leaves open."""
    return gate.name in _SPEED_GATES or gate.name == "max_latency_ms"


def _judged(result: ValidateResult) -> Headline:
    badge, tone = _VERDICTS[result.verdict]
    name = str(result.bundle.get("name") or "The bundle")
    accuracy, latency = result.accuracy, result.latency
    parts = [] if accuracy is None else [_about_accuracy(accuracy)]
    if latency is not None:
        parts.append(_about_speed(latency, noisy=_is_noisy(result)))
    ratio = result.size.ratio
    if math.isfinite(ratio):
        parts.append(
            "is as large"
            if 0.995 <= ratio <= 1.005
            else f"has {words.digits(ratio * 100)} % of the size"
        )
    parts = parts or ["was judged"]
    against = str(result.reference.get("id") or "the original")
    where = [] if accuracy is None else [_samples(accuracy, result)]
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
    by, worse = words.hundredths(abs(accuracy.drop), unit), accuracy.drop > 0
    if worse == (accuracy.candidate > accuracy.reference):
        # Less is better: nobody loses an error rate.
        return f"{'raises' if worse else 'lowers'} its {accuracy.metric} by {by} ({bounds})"
    return f"{'loses' if worse else 'gains'} {by} of {accuracy.metric} ({bounds})"


def _samples(accuracy: Accuracy, result: ValidateResult) -> str:
    """`1,500 samples of movies.csv`."""
    name = result.data.get("name")
    return words.counted(accuracy.samples, "sample") + (f" of {name}" if name else "")


def _is_noisy(result: ValidateResult) -> bool:
    return result.timing is not None and noisy(result.timing.noise)


def _about_speed(latency: Latency, *, noisy: bool) -> str:
    speed = latency.speedup
    value, bounds = words.times(speed.value), words.bracketed(speed, noisy=noisy)
    told = words.comparison(words.resolved(speed), noisy=noisy)
    if told == "faster":
        return f"is {value} as fast ({bounds})"
    if told == "slower":
        return f"is slower, {value} as fast ({bounds})"
    return f"was measured at {value} the speed ({bounds})"


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
        said, value = gate_values(gate, result)
        word = "missed" if gate.passed is False else "not decided"
        found.append(f"{gate.name} was {word}: limit {said}, measured {value}.")
    if accuracy is not None and accuracy.samples_needed and result.verdict == "inconclusive":
        found.append(f"About {accuracy.samples_needed:,} samples would settle the accuracy.")
    elif _beyond_samples(result):
        found.append("No number of samples would settle the accuracy within this budget.")
    if result.timing is not None and noisy(result.timing.noise):
        causes = words.disturbed(result.timing.noise)
        found.append(f"The machine was noisy while it was timed{causes}: no speed is decided.")
    found += [note for note in result.notes if note.startswith(NOT_RUN)]
    return tuple(found)


def _beyond_samples(result: ValidateResult) -> bool:
    """Whether the drop was left open, and not for want of samples: it lies on the budget."""
    accuracy = result.accuracy
    left_open = any(gate.name == DROP_GATE and gate.passed is None for gate in result.gates)
    return left_open and accuracy is not None and math.isfinite(accuracy.drop_upper_95)


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
        found.append(_speed(latency, noisy=_is_noisy(result)))
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


def _speed(latency: Latency, *, noisy: bool) -> KeyFigure:
    told = words.comparison(words.resolved(latency.speedup), noisy=noisy)
    tones: Mapping[str, Tone] = {"faster": "good", "slower": "bad"}
    doubt = "" if told in tones else f", {told}"
    return KeyFigure(
        "Speed",
        words.times(latency.speedup.value),
        f"{words.milliseconds(latency.reference_ms)} → {words.milliseconds(latency.candidate_ms)},"
        f" {words.interval(latency.speedup)}{doubt}",
        tones.get(told, "plain"),
    )


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
