"""Gates and verdicts: what passes, what fails, and what is left undecided."""

from __future__ import annotations

import pytest

from edgekit.core.results import BenchResult, Contender, Gate, Interval, Latency, Noise, Size
from edgekit.pipeline.verdicts import Limits, combine, judge_gates


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
    assert _only(Limits(max_latency_ms=6.0), _latency(3.0, 4.0), noisy=True).passed is None


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
