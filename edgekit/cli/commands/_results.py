"""What a verdict rests on, in the lines that validate, quantize and build have in common."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.core.measurements import Accuracy, Interval, Latency, Noise, Verdict
from edgekit.reporting import words


def verdict_line(verdict: Verdict, *, target: str, run: bool, by_data: bool) -> str:
    """The first line. What was not run on its target has passed for its answers alone."""
    if run or verdict != "pass":
        return f"verdict: {verdict}"
    judged = "accuracy" if by_data else "golden answers"
    return (
        f"verdict: {verdict} for its {judged}, on this machine; built, not run on {target}, speed"
        " not measured"
    )


def accuracy_lines(
    accuracy: Accuracy,
    *,
    budget: float | None = None,
    rows: str = "",
    before: str = "in PyTorch",
    after: str = "in the bundle",
) -> list[str]:
    """The metric on both sides, and its drop.

    `rows` says of which kind the samples are, `before` and `after` where the two models ran.
    """
    lines = [
        f"{accuracy.metric}: {words.metric(accuracy.reference)} {before},"
        f" {words.metric(accuracy.candidate)} {after}, {accuracy.samples:,} samples{rows}"
    ]
    allowed = "" if budget is None else f"; budget {words.hundredths(budget, accuracy.drop_unit)}"
    lines.append(f"drop: {words.drop(accuracy)}{allowed}")
    if accuracy.metric.endswith("agreement"):
        lines.insert(
            1, "no labels: agreement tells whether the bundle answers as the original does, not"
            " whether that is right",
        )  # fmt: skip
    return lines


def latency_line(
    latency: Latency,
    workload: Mapping[str, object],
    *,
    before: str = "in PyTorch",
    noise: Noise | None = None,
) -> str:
    """The median of both sides and their ratio, with what was timed; `before` names the first."""
    noisy = noise is not None and noise.verdict == "noisy"
    at = words.ran_at(workload.get("batch"), workload.get("length"), workload.get("threads"))
    return (
        f"latency{f' at {at}' if at else ''}: {words.milliseconds(latency.reference_ms)} {before},"
        f" {words.milliseconds(latency.candidate_ms)} in the bundle:"
        f" {ratio(latency.speedup, noisy=noisy)}"
    )


def ratio(speed: Interval, *, noisy: bool = False) -> str:
    """A speed with its interval, and whether it is any."""
    return f"{words.times(speed.value)} ({words.bracketed(speed, noisy=noisy)})"


def noise_lines(noise: Noise | None) -> list[str]:
    """How quiet the machine was, where something was timed."""
    return [] if noise is None else words.noise(noise)
