"""Gates and the final word: what a validation's figures mean for its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Gate,
    Interval,
    Latency,
    Size,
    ValidateResult,
    Verdict,
)
from edgekit.core.tolerance import Tolerance
from edgekit.evaluation.numerics import Distance
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.rows import more_rows
from edgekit.reporting import words
from edgekit.reporting.headline import DROP_GATE, TOLERANCE_GATE, gate_values, on_time

# The gates that tell what the models' answers came to, which has a verdict of its own.
_ON_ANSWERS = (DROP_GATE, TOLERANCE_GATE)


@dataclass(frozen=True)
class Limits:
    """The gates that are set; None for those that are not.

    ``of_target`` names those that nobody typed: they are the target's.
    """

    min_speedup: float | None = None
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    max_rss_mb: float | None = None
    of_target: frozenset[str] = frozenset()

    @property
    def need_timing(self) -> bool:
        """Whether a gate cannot be judged without measuring."""
        return (self.min_speedup, self.max_latency_ms, self.max_rss_mb) != (None, None, None)


# The limits of a target profile, and the gates that they are.
_OF_TARGET = {
    "latency_ms": "max_latency_ms",
    "size_mb": "max_size_mb",
    "rss_mb": "max_rss_mb",
}


def with_target(
    limits: Limits, target: Mapping[str, object] | None, *, timed: bool
) -> tuple[Limits, tuple[str, ...]]:
    """The limits, those that nobody set from the bundle's target; notes say which those are.

    What needs a measurement is left out unless one is `timed`.
    """
    held = (target or {}).get("limits")
    found = held if isinstance(held, Mapping) else {}
    taken: dict[str, float] = {}
    untold: list[str] = []
    for key, gate in _OF_TARGET.items():
        limit = found.get(key)
        if isinstance(limit, bool) or not isinstance(limit, (int, float)):
            continue
        if getattr(limits, gate) is not None:
            continue
        if gate == "max_size_mb" or timed:
            taken[gate] = float(limit)
        else:
            untold.append(gate)
    name = (target or {}).get("name")
    notes: list[str] = []
    if taken:
        told = ", ".join(f"{gate} {limit:g}" for gate, limit in taken.items())
        notes.append(f"Limits of the target {name}: {told}.")
    if untold:
        notes.append(f"Not judged without a measurement: {', '.join(untold)} of the target {name}.")
    return replace(limits, **taken, of_target=frozenset(taken)), tuple(notes)


def drop_gate(accuracy: Accuracy, budget: Budget, verdict: Verdict) -> Gate:
    """The budget as a gate: in fractions of the reference's metric, or in the metric itself."""
    passed = {"pass": True, "fail": False, "inconclusive": None}[verdict]
    return Gate(DROP_GATE, budget.limit, accuracy.drop, passed)


def tolerance_gate(
    distances: Mapping[str, Distance], rule: Tolerance
) -> tuple[tuple[Gate, ...], tuple[str, ...]]:
    """The tolerance as a gate, told of the output that uses up most of it; a note says what it is.

    No gate where there is nothing to compare.
    """
    if not distances:
        return (), ()

    def used(name: str) -> tuple[bool, float]:
        apart, allowed, _ = distances[name].used(rule)
        return not distances[name].within(rule), apart / allowed if allowed else apart

    worst = max(distances, key=used)
    apart, allowed, what = distances[worst].used(rule)
    told = rule.describe(distances[worst].row)
    note = f"The gate {TOLERANCE_GATE} ({told}) limits {what} of the output {worst}."
    value = None if math.isnan(apart) else apart
    return (Gate(TOLERANCE_GATE, allowed, value, distances[worst].within(rule)),), (note,)


def judge_gates(
    limits: Limits, latency: Latency | None, timed: BenchResult | None, size: Size
) -> tuple[tuple[Gate, ...], tuple[str, ...]]:
    """Each limit against the bad end of what was measured; None where the run cannot tell.

    In a noisy run a gate on time is inconclusive: it is neither missed nor, where somebody asked
    for it, passed. One that nobody asked for (not_slower, the target's latency) passes unless its
    interval lies against it, and a note says so.
    """
    gates: list[Gate] = []
    notes: list[str] = []
    noisy = timed is not None and timed.noise.verdict == "noisy"
    if latency is not None:
        speed = latency.speedup
        if limits.min_speedup is None:
            gate, note = _not_slower(speed, noisy=noisy)
            gates.append(gate)
            notes += note
        else:
            least = limits.min_speedup
            held = _decided(speed.low >= least, speed.high < least, noisy=noisy)
            gates.append(Gate("min_speedup", least, speed.value, held))
            notes += _left_open("min_speedup") if noisy else []
    if limits.max_latency_ms is not None and latency is not None:
        most, value = limits.max_latency_ms, latency.candidate_ms
        low = value if latency.candidate_low_ms is None else latency.candidate_low_ms
        high = value if latency.candidate_high_ms is None else latency.candidate_high_ms
        held = _decided(high <= most, low > most, noisy=noisy)
        if held is None and "max_latency_ms" in limits.of_target and high <= most:
            # A wide limit that nobody typed: noise alone is no reason to doubt it.
            held = True
            notes.append(
                "The run was noisy: max_latency_ms, which nobody asked for, passes, for all of the"
                f" interval, up to {words.milliseconds(high)}, is within the target's limit of"
                f" {words.milliseconds(most)}."
            )
        elif noisy:
            notes += _left_open("max_latency_ms")
        gates.append(Gate("max_latency_ms", most, value, held))
    elif limits.max_latency_ms is not None:
        gates.append(Gate("max_latency_ms", limits.max_latency_ms, None, None))
    if limits.min_speedup is not None and latency is None:
        gates.append(Gate("min_speedup", limits.min_speedup, None, None))
    if limits.max_size_mb is not None:
        megabytes = size.candidate_bytes / 1e6
        gates.append(
            Gate("max_size_mb", limits.max_size_mb, megabytes, megabytes <= limits.max_size_mb)
        )
    if limits.max_rss_mb is not None:
        peak = None if timed is None else timed.contenders[-1].peak_rss_bytes
        used = None if peak is None else peak / 1e6
        held = None if used is None else used <= limits.max_rss_mb
        gates.append(Gate("max_rss_mb", limits.max_rss_mb, used, held))
    return tuple(gates), tuple(notes)


def _not_slower(speed: Interval, *, noisy: bool) -> tuple[Gate, list[str]]:
    """A bundle must not be slower than what it replaces; not resolved is not slower, and said."""
    interval = f"{words.times(speed.value)}, {words.interval(speed)}"
    if speed.high < 1.0:
        # A noisy run cannot tell that it is slower, and gives no reason to think that it is not.
        held = None if noisy else False
        return Gate("not_slower", 1.0, speed.value, held), (
            _left_open("not_slower") if noisy else []
        )
    gate = Gate("not_slower", 1.0, speed.value, True)
    open_ = f"the speed is not resolved from the original's ({interval})"
    above = f"all of the interval is above 1 ({interval})"
    if noisy:
        why = open_ if speed.low <= 1.0 else above
        return gate, [f"The run was noisy: not_slower, which nobody asked for, passes, for {why}."]
    if speed.low <= 1.0:
        return gate, [f"{open_[0].upper()}{open_[1:]}: not_slower passes."]
    return gate, []


def _left_open(gate: str) -> list[str]:
    return [f"The run was noisy: {gate} is inconclusive."]


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
    """The sentence that names all that was missed, or else all that was not decided, with values.

    Args:
        verdict: that on the accuracy (without data: on the outputs) alone.
        problem: the sentence on a failure that is not the drop's.
    """
    gates = [gate for gate in result.gates if gate.name not in _ON_ANSWERS]
    missed = [gate for gate in gates if gate.passed is False]
    if missed or verdict == "fail":
        failed = verdict == "fail"
        return _told(result, max_drop, missed, "missed", problem, failed=failed, answers=failed)
    undecided = [gate for gate in gates if gate.passed is None]
    if undecided or verdict == "inconclusive":
        answers = verdict == "inconclusive"
        return _told(
            result, max_drop, undecided, "not decided", problem, failed=False, answers=answers
        )
    return "Everything asked for holds."


def _told(
    result: ValidateResult,
    max_drop: str,
    gates: Sequence[Gate],
    word: str,
    problem: str | None,
    *,
    failed: bool,
    answers: bool,
) -> str:
    """Whatever was `word`: the gates, and with `answers` what the models' answers came to."""
    accuracy = result.accuracy
    whole = (problem or _about_drop(result, max_drop, failed=failed)) if answers else ""
    if not gates:
        return whole
    parts = [f"{gate.name} ({_values(gate, result)})" for gate in gates]
    noise = f" {_about_noise(result)}" if _left_by_noise(gates, result) else ""
    if not answers and len(gates) == 1:
        return f"The gate {gates[0].name} was {word}: {_values(gates[0], result)}.{noise}"
    if not answers:
        return f"{len(gates)} gates were {word}: {words.listed(parts)}.{noise}"
    if problem or accuracy is None:
        return f"{whole} Besides, {word}: {words.listed(parts)}.{noise}"
    drop = f"the drop in {accuracy.metric} ({words.drop(accuracy)}; budget {max_drop})"
    return f"{word.capitalize()}: {words.listed([drop, *parts])}.{noise}"


def _left_by_noise(gates: Sequence[Gate], result: ValidateResult) -> bool:
    """Whether noise is what kept one of the gates from being decided."""
    noisy = result.timing is not None and result.timing.noise.verdict == "noisy"
    return noisy and any(gate.passed is None and on_time(gate) for gate in gates)


def _about_noise(result: ValidateResult) -> str:
    causes = "" if result.timing is None else words.disturbed(result.timing.noise)
    return f"The machine was noisy while it was timed{causes}."


def _values(gate: Gate, result: ValidateResult) -> str:
    limit, value = gate_values(gate, result)
    return f"limit {limit}, measured {'unknown' if gate.value is None else value}"


def _about_drop(result: ValidateResult, max_drop: str, *, failed: bool) -> str:
    accuracy = result.accuracy
    if accuracy is None:
        return "The bundle has no output that could be compared with the original's."
    word = "is over" if failed else "is not proved to be within"
    return (
        f"The drop in {accuracy.metric} ({words.drop(accuracy)}) {word} the budget of"
        f" {max_drop}: {accuracy.reference:.4f} {words.original(result.reference)},"
        f" {accuracy.candidate:.4f} in the"
        f" bundle, on {accuracy.samples:,} samples."
    )


def remedy(result: ValidateResult, verdict: Verdict, *, timing_asked: bool = False) -> str:
    """What a person can do about it; `verdict` as for `reason`.

    With `timing_asked` a gate that needs a measurement was asked for, so that it cannot be left
    out.
    """
    if result.verdict != "inconclusive":
        return "Use a more exact bundle, or allow more with the option of that limit."
    found = [_more_samples(result)] if verdict == "inconclusive" else []
    if _left_by_noise(result.gates, result):
        without = "" if timing_asked else ", or judge without speed with --no-latency"
        found.append(
            "Quiet the machine (stop what else runs on it) and measure again, for longer with a"
            f" larger --budget{without}."
        )
    elif any(gate.passed is None and gate.name not in _ON_ANSWERS for gate in result.gates):
        found.append("Measure again on a quieter machine, or with a larger --budget.")
    return " ".join(found)


def _more_samples(result: ValidateResult) -> str:
    accuracy = result.accuracy
    needed = None if accuracy is None else accuracy.samples_needed
    if accuracy is not None and not needed and math.isfinite(accuracy.drop_upper_95):
        return f"{more_rows(None)} {_provable(accuracy)}"
    if not needed:
        return "Give DATA with more samples of every class, or choose another --metric."
    return f"{more_rows(needed)} A --limit must not be below that."


def _provable(accuracy: Accuracy) -> str:
    """The least budget that these samples would have proved, as an option."""
    relative = accuracy.drop_unit == "relative"
    least = math.ceil(max(accuracy.drop_upper_95, 0.0001) * 1e4) / 100
    return f"On these samples --max-drop {least:g}{'%' if relative else 'pt'} would have held."
