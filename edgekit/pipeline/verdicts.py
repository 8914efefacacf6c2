"""Gates and the final word: what a validation's figures mean for its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.core.results import BenchResult, Gate, Latency, Size, ValidateResult, Verdict


@dataclass(frozen=True)
class Limits:
    """The gates that a person set; None for those that were not."""

    min_speedup: float | None = None
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    max_rss_mb: float | None = None

    @property
    def need_timing(self) -> bool:
        """Whether a gate cannot be judged without measuring."""
        return (self.min_speedup, self.max_latency_ms, self.max_rss_mb) != (None, None, None)


def judge_gates(
    limits: Limits, latency: Latency | None, timed: BenchResult | None, size: Size
) -> tuple[Gate, ...]:
    """Each limit against the bad end of what was measured; None where the run cannot tell."""
    gates: list[Gate] = []
    noisy = timed is not None and timed.noise.verdict == "noisy"
    if latency is not None:
        speed = latency.speedup
        # Without a limit of one's own: a bundle must not be slower than what it replaces.
        least = 1.0 if limits.min_speedup is None else limits.min_speedup
        passed: bool | None = speed.low >= least or None
        if speed.high < least:
            passed = False
        if limits.min_speedup is None and passed is None:
            passed = True
        elif noisy and limits.min_speedup is not None:
            passed = None
        name = "not_slower" if limits.min_speedup is None else "min_speedup"
        gates.append(Gate(name, least, speed.value, passed))
    if limits.max_latency_ms is not None and latency is not None:
        within = latency.candidate_ms <= limits.max_latency_ms
        gates.append(
            Gate("max_latency_ms", limits.max_latency_ms, latency.candidate_ms,
                 None if noisy else within)
        )  # fmt: skip
    if limits.max_size_mb is not None:
        megabytes = size.candidate_bytes / 1e6
        gates.append(
            Gate("max_size_mb", limits.max_size_mb, megabytes, megabytes <= limits.max_size_mb)
        )
    if limits.max_rss_mb is not None and timed is not None:
        peak = timed.contenders[-1].peak_rss_bytes
        value = None if peak is None else peak / 1e6
        held = None if value is None else value <= limits.max_rss_mb
        gates.append(Gate("max_rss_mb", limits.max_rss_mb, value, held))
    return tuple(gates)


def combine(verdict: Verdict, gates: Sequence[Gate]) -> Verdict:
    """The worst of all: a failure, then what could not be decided."""
    if verdict == "fail" or any(gate.passed is False for gate in gates):
        return "fail"
    if verdict == "inconclusive" or any(gate.passed is None for gate in gates):
        return "inconclusive"
    return "pass"


def reason(result: ValidateResult, max_drop: str) -> str:
    """The sentence that names what was missed, with its values."""
    for gate in result.gates:
        if gate.passed is not True:
            value = "unknown" if gate.value is None else f"{gate.value:.3g}"
            word = "missed" if gate.passed is False else "not decided by this run"
            return f"The gate {gate.name} was {word}: limit {gate.limit:g}, measured {value}."
    accuracy = result.accuracy
    if accuracy is None:
        worst = min(result.numerics.items(), key=lambda item: item[1].cosine)
        return (
            f"The outputs are not within the tolerance of the original: {worst[0]} has a cosine of"
            f" {worst[1].cosine:.6f} and is off by up to {worst[1].max_abs:.3g}."
        )
    word = "is over" if result.verdict == "fail" else "is not proved to be within"
    return (
        f"The drop in {accuracy.metric}, {accuracy.drop:.4f} ({accuracy.drop_lower_95:.4f} to"
        f" {accuracy.drop_upper_95:.4f}), {word} the budget of {max_drop}:"
        f" {accuracy.reference:.4f} in PyTorch, {accuracy.candidate:.4f} in the bundle, on"
        f" {accuracy.samples:,} samples."
    )


def remedy(result: ValidateResult) -> str:
    """What a person can do about it."""
    accuracy = result.accuracy
    if result.verdict == "inconclusive" and accuracy is not None and accuracy.samples_needed:
        return f"About {accuracy.samples_needed:,} verdict samples would settle it."
    if result.verdict == "inconclusive":
        return "Measure again on a quieter machine, or with a larger --budget."
    return "Use a more exact bundle, or allow more with the option of that limit."
