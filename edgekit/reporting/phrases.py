"""What a verdict says of accuracy and of speed: halves of sentences, reasons, key figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgekit.core.measurements import Accuracy, Latency
from edgekit.reporting import words
from edgekit.reporting.figures import KeyFigure, Tone

#: How a verdict is called, and in which colour.
VERDICTS: Mapping[str, tuple[str, Tone]] = {
    "pass": ("Pass", "good"),
    "fail": ("Fail", "bad"),
    "inconclusive": ("Inconclusive", "open"),
}


def spelled_drop(text: str, accuracy: Accuracy) -> float | None:
    """A budget as it is typed (``1%``, ``0.5pt``) in the drop's own unit; None of another unit."""
    unit = {"%": "relative", "pt": "points"}.get(text.lstrip("0123456789. "))
    if unit != accuracy.drop_unit:
        return None
    try:
        return float(text.rstrip("%pt ")) / 100
    except ValueError:
        return None


def about_accuracy(accuracy: Accuracy) -> str:
    """What became of the metric, for a sentence about a model."""
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


def about_speed(latency: Latency, *, noisy: bool) -> str:
    """How fast a model is, for a sentence about it."""
    speed = latency.speedup
    value, bounds = words.times(speed.value), words.bracketed(speed, noisy=noisy)
    told = words.comparison(words.resolved(speed), noisy=noisy)
    if told == "faster":
        return f"is {value} as fast ({bounds})"
    if told == "slower":
        return f"is slower, {value} as fast ({bounds})"
    return f"was measured at {value} the speed ({bounds})"


def over_budget(accuracy: Accuracy, limit: float) -> list[str]:
    """That a drop is over its budget, or not proved to be within; nothing where it is."""
    allowed = words.hundredths(limit, accuracy.drop_unit)
    if accuracy.drop_lower_95 > limit:
        return [f"The drop is over the budget of {allowed}."]
    # An upper end that is no number bounds nothing either.
    if not accuracy.drop_upper_95 <= limit:
        return [f"The drop is not proved to be within the budget of {allowed}."]
    return []


def drop_figure(accuracy: Accuracy, limit: float | None) -> KeyFigure:
    """The drop, green where all of it is within its budget."""
    return KeyFigure(
        f"Drop in {accuracy.metric}",
        words.hundredths(accuracy.drop, accuracy.drop_unit),
        f"{words.metric(accuracy.reference)} → {words.metric(accuracy.candidate)},"
        f" {_at_most(accuracy)}",
        _drop_tone(accuracy, limit),
    )


def speed_figure(latency: Latency, *, noisy: bool) -> KeyFigure:
    """The speed, in colour where it is decided."""
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
