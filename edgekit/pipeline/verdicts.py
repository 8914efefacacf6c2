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
        if limits.min_speedup is None:
            # A bundle must not be slower than what it replaces; not resolved is not slower.
            gates.append(Gate("not_slower", 1.0, speed.value, noisy or speed.high >= 1.0))
        else:
            least = limits.min_speedup
            held = _decided(speed.low >= least, speed.high < least, noisy=noisy)
            gates.append(Gate("min_speedup", least, speed.value, held))
    if limits.max_latency_ms is not None and latency is not None:
        most, value = limits.max_latency_ms, latency.candidate_ms
        low = value if latency.candidate_low_ms is None else latency.candidate_low_ms
        high = value if latency.candidate_high_ms is None else latency.candidate_high_ms
        held = _decided(high <= most, low > most, noisy=noisy)
        gates.append(Gate("max_latency_ms", most, value, held))
    if limits.max_size_mb is not None:
        megabytes = size.candidate_bytes / 1e6
        gates.append(
            Gate("max_size_mb", limits.max_size_mb, megabytes, megabytes <= limits.max_size_mb)
        )
    if limits.max_rss_mb is not None and timed is not None:
        peak = timed.contenders[-1].peak_rss_bytes
        used = None if peak is None else peak / 1e6
        held = None if used is None else used <= limits.max_rss_mb
        gates.append(Gate("max_rss_mb", limits.max_rss_mb, used, held))
    return tuple(gates)


def _decided(held: bool, missed: bool, *, noisy: bool) -> bool | None:
    """True or False where the whole interval says so in a quiet run."""
    return held if not noisy and (held or missed) else None


def combine(verdict: Verdict, gates: Sequence[Gate]) -> Verdict:
    """The worst of all: a failure, then what could not be decided."""
    if verdict == "fail" or any(gate.passed is False for gate in gates):
        return "fail"
    if verdict == "inconclusive" or any(gate.passed is None for gate in gates):
        return "inconclusive"
    return "pass"


def reason(
    result: ValidateResult, max_drop: str, verdict: Verdict, problem: str | None = None
) -> str:
    """The sentence that names what was missed, or else what was not decided, with its values.

    Args:
        verdict: that on the accuracy (without data: on the outputs) alone.
        problem: the sentence on a failure that is not the drop's.
    """
    for gate in result.gates:
        if gate.passed is False:
            return f"The gate {gate.name} was missed: {_values(gate)}."
    if verdict != "pass":
        return problem or _about_drop(result, max_drop, verdict)
    for gate in result.gates:
        if gate.passed is None:
            return f"The gate {gate.name} was not decided by this run: {_values(gate)}."
    return "Everything asked for holds."


def _values(gate: Gate) -> str:
    value = "unknown" if gate.value is None else f"{gate.value:.3g}"
    return f"limit {gate.limit:g}, measured {value}"


def _about_drop(result: ValidateResult, max_drop: str, verdict: Verdict) -> str:
    accuracy = result.accuracy
    if accuracy is None:
        return "The bundle has no output that could be compared with the original's."
    word = "is over" if verdict == "fail" else "is not proved to be within"
    return (
        f"The drop in {accuracy.metric}, {accuracy.drop:.4f} ({accuracy.drop_lower_95:.4f} to"
        f" {accuracy.drop_upper_95:.4f}), {word} the budget of {max_drop}:"
        f" {accuracy.reference:.4f} in PyTorch, {accuracy.candidate:.4f} in the bundle, on"
        f" {accuracy.samples:,} samples."
    )


def remedy(result: ValidateResult, verdict: Verdict) -> str:
    """What a person can do about it; `verdict` as for `reason`."""
    if result.verdict != "inconclusive":
        return "Use a more exact bundle, or allow more with the option of that limit."
    if verdict != "inconclusive":
        return "Measure again on a quieter machine, or with a larger --budget."
    needed = None if result.accuracy is None else result.accuracy.samples_needed
    if needed:
        return f"About {needed:,} verdict samples would settle it."
    return "Give DATA with more samples of every class, or choose another --metric."
