"""Gates and verdicts: what passes, what fails, and what is left undecided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.core.results import (
    Accuracy,
    BenchResult,
    Contender,
    Gate,
    Interval,
    Latency,
    Noise,
    Size,
    ValidateResult,
    Verdict,
)
from edgekit.pipeline.verdicts import Limits, combine, judge_gates, reason, remedy


def _latency(low: float, high: float) -> Latency:
    return Latency(10.0, 5.0, Interval((low + high) / 2, low, high))


def _timed(*, noisy: bool = False, peak: int = 50_000_000) -> BenchResult:
    row = Contender(
        "b", "onnxruntime", 1, 16, 5.0, None, None, None, 200.0, 1.0, 1.0, 1.0, peak, 10, 100, 5
    )
    noise = Noise(1.0, 0.9, 1.1, "noisy" if noisy else "quiet", ())
    return BenchResult({}, {}, {}, (row,), (), noise)


SIZE = Size(100_000_000, 50_000_000, 0.5)


def _only(limits: Limits, latency: Latency | None, *, noisy: bool = False) -> Gate:
    gates = judge_gates(limits, latency, None if latency is None else _timed(noisy=noisy), SIZE)
    return next(gate for gate in gates if gate.name != "not_slower")


@pytest.mark.parametrize(
    ("low", "high", "passed"), [(1.2, 1.4, True), (0.9, 1.1, True), (0.7, 0.9, False)]
)
def test_resolved_slower_fails_unasked(low: float, high: float, passed: bool) -> None:
    """Slower than what it replaces is a failure; not resolved passes."""
    (gate,) = judge_gates(Limits(), _latency(low, high), _timed(), SIZE)
    assert (gate.name, gate.passed) == ("not_slower", passed)


@pytest.mark.parametrize(
    ("low", "high", "passed"), [(2.1, 2.5, True), (1.8, 2.2, None), (1.5, 1.9, False)]
)
def test_speedup_is_judged_by_the_bad_end(low: float, high: float, passed: bool | None) -> None:
    """The gate on speed holds only when the whole interval does."""
    assert _only(Limits(min_speedup=2.0), _latency(low, high)).passed is passed


def test_noise_leaves_a_gate_undecided() -> None:
    """A noisy run decides no gate on speed."""
    assert _only(Limits(min_speedup=2.0), _latency(3.0, 4.0), noisy=True).passed is None
    assert _only(Limits(min_speedup=2.0), _latency(0.5, 0.6), noisy=True).passed is None
    assert _only(Limits(max_latency_ms=6.0), _latency(3.0, 4.0), noisy=True).passed is None


def test_noise_does_not_make_a_bundle_slower() -> None:
    """The gate that nobody asked for stays "not resolved" in a noisy run, which passes."""
    (gate,) = judge_gates(Limits(), _latency(0.7, 0.9), _timed(noisy=True), SIZE)
    assert gate.passed is True


@pytest.mark.parametrize(("limit", "passed"), [(7.0, True), (5.5, None), (4.5, None), (3.0, False)])
def test_latency_is_judged_by_the_bad_end(limit: float, passed: bool | None) -> None:
    """Five milliseconds that may be four or six are not within five and a half."""
    latency = replace(_latency(1.1, 1.3), candidate_low_ms=4.0, candidate_high_ms=6.0)
    assert _only(Limits(max_latency_ms=limit), latency).passed is passed


def test_latency_and_memoryjudge_gates() -> None:
    """Milliseconds and megabytes are compared with what was measured."""
    latency = _latency(1.1, 1.3)
    assert _only(Limits(max_latency_ms=6.0), latency).passed is True
    assert _only(Limits(max_latency_ms=4.0), latency).passed is False
    assert _only(Limits(max_rss_mb=60.0), latency).passed is True
    assert _only(Limits(max_rss_mb=40.0), latency).passed is False


def test_size_gate_needs_no_timing() -> None:
    """The size is known without a measurement."""
    assert _only(Limits(max_size_mb=60.0), None).passed is True
    assert _only(Limits(max_size_mb=40.0), None).passed is False


def test_the_worst_verdict_counts() -> None:
    """A failed gate fails; an undecided one leaves the verdict open."""
    held, open_, missed = (Gate("g", 1.0, 1.0, passed) for passed in (True, None, False))
    assert combine("pass", [held]) == "pass"
    assert combine("pass", [held, open_]) == "inconclusive"
    assert combine("inconclusive", [missed]) == "fail"
    assert combine("fail", [held]) == "fail"


def _result(verdict: Verdict, *passed: bool | None, data: bool = True) -> ValidateResult:
    accuracy = Accuracy("accuracy", 0.9, 0.8, 0.11, 0.08, 0.13, 500, None) if data else None
    gates = tuple(Gate(f"g{index}", 1.0, 2.0, one) for index, one in enumerate(passed))
    return ValidateResult(verdict, accuracy, {}, None, SIZE, gates, {}, {})


@pytest.mark.parametrize(
    ("outcome", "passed", "told"),
    [
        ("fail", (None, False), "gate g1 was missed"),
        ("fail", (None,), "drop in accuracy, 0.1100 (0.0800 to 0.1300), is over"),
        ("inconclusive", (None,), "is not proved"),
        ("pass", (True, None), "gate g1 was not decided"),
    ],
)
def test_the_worst_is_told_first(
    outcome: Verdict, passed: tuple[bool | None, ...], told: str
) -> None:
    """Missed gates, then accuracy, then what was left undecided."""
    assert told in reason(_result("fail", *passed), "1%", outcome)


def test_a_reason_without_figures() -> None:
    """Nothing to compare, or a problem that no figure shows."""
    bare = _result("fail", data=False)
    assert "no output that could be compared" in reason(bare, "1%", "fail")
    assert reason(bare, "1%", "fail", "NaN everywhere.") == "NaN everywhere."


def test_the_remedy_is_for_what_was_undecided() -> None:
    """A quieter machine settles no accuracy."""
    open_ = _result("inconclusive", None)
    assert "quieter" in remedy(open_, "pass")
    assert "metric" in remedy(open_, "inconclusive")
    assert "more exact" in remedy(_result("fail"), "fail")
