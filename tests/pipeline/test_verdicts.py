"""Gates and verdicts: what passes, what fails, and what is left undecided."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgekit.core.measurements import (
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
from edgekit.core.tolerance import TOLERANCES
from edgekit.evaluation.numerics import Distance
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.verdicts import (
    Limits,
    combine,
    drop_gate,
    judge_gates,
    reason,
    remedy,
    tolerance_gate,
    with_target,
)


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
    gates, _ = judge_gates(limits, latency, None if latency is None else _timed(noisy=noisy), SIZE)
    return next(gate for gate in gates if gate.name != "not_slower")


@pytest.mark.parametrize(
    ("low", "high", "passed"), [(1.2, 1.4, True), (0.9, 1.1, True), (0.7, 0.9, False)]
)
def test_resolved_slower_fails_unasked(low: float, high: float, passed: bool) -> None:
    """Slower than what it replaces is a failure; not resolved passes."""
    (gate,), notes = judge_gates(Limits(), _latency(low, high), _timed(), SIZE)
    assert (gate.name, gate.passed) == ("not_slower", passed)
    told = [note for note in notes if "not resolved" in note and "not_slower passes" in note]
    assert len(told) == (low <= 1 <= high)
    assert len(notes) == len(told)


@pytest.mark.parametrize(
    ("low", "high", "passed"), [(2.1, 2.5, True), (1.8, 2.2, None), (1.5, 1.9, False)]
)
def test_speedup_is_judged_by_the_bad_end(low: float, high: float, passed: bool | None) -> None:
    """The gate on speed holds only when the whole interval does."""
    assert _only(Limits(min_speedup=2.0), _latency(low, high)).passed is passed


def test_noise_leaves_a_gate_undecided() -> None:
    """A noisy run decides no gate on time that was asked for, and each is told."""
    assert _only(Limits(min_speedup=2.0), _latency(3.0, 4.0), noisy=True).passed is None
    assert _only(Limits(min_speedup=2.0), _latency(0.5, 0.6), noisy=True).passed is None
    assert _only(Limits(max_latency_ms=6.0), _latency(3.0, 4.0), noisy=True).passed is None
    limits = Limits(min_speedup=2.0, max_latency_ms=6.0)
    _, notes = judge_gates(limits, _latency(3.0, 4.0), _timed(noisy=True), SIZE)
    assert notes == (
        "The run was noisy: min_speedup is inconclusive.",
        "The run was noisy: max_latency_ms is inconclusive.",
    )


@pytest.mark.parametrize(
    ("low", "high", "passed", "told"),
    [
        (0.09, 0.11, None, "not_slower is inconclusive"),
        (0.9, 1.1, True, "nobody asked for, passes, for the speed is not resolved"),
        (1.2, 1.4, True, "nobody asked for, passes, for all of the interval is above 1"),
    ],
)
def test_noise_does_not_make_a_slow_bundle_pass(
    low: float, high: float, passed: bool | None, told: str
) -> None:
    """Slower in a noisy run is undecided; whatever passes in one is said to be of a noisy run."""
    (gate,), notes = judge_gates(Limits(), _latency(low, high), _timed(noisy=True), SIZE)
    assert gate.passed is passed
    assert combine("pass", [gate]) == ("inconclusive" if passed is None else "pass")
    (note,) = notes
    assert note.startswith("The run was noisy: not_slower")
    assert told in note


def test_a_target_limit_within_the_interval_is_undecided() -> None:
    """A median of 100 ms that may be 1000 is not within 110, whoever set the limit."""
    latency = replace(_latency(1.1, 1.3), candidate_low_ms=4.0, candidate_high_ms=60.0)
    for noisy in (False, True):
        for names in (frozenset[str](), frozenset({"max_latency_ms"})):
            limits = Limits(max_latency_ms=50.0, of_target=names)
            assert _only(limits, latency, noisy=noisy).passed is None


def test_a_limit_that_passes_undecided_is_told() -> None:
    """With what its interval reaches to, for the run itself decided nothing."""
    limits = Limits(max_latency_ms=1000.0, of_target=frozenset({"max_latency_ms"}))
    latency = replace(_latency(1.1, 1.3), candidate_high_ms=6.0)
    _, notes = judge_gates(limits, latency, _timed(noisy=True), SIZE)
    (told,) = (note for note in notes if "max_latency_ms" in note)
    assert "nobody asked for, passes" in told
    assert "6.00" in told
    _, quiet = judge_gates(limits, latency, _timed(), SIZE)
    assert quiet == ()


def test_limits_without_their_measurement_are_undecided() -> None:
    """When it failed, what was asked for still stands among the gates."""
    limits = Limits(min_speedup=2.0, max_latency_ms=5.0, max_rss_mb=9.0)
    gates, _ = judge_gates(limits, None, None, SIZE)
    assert {gate.name: gate.passed for gate in gates} == {
        "min_speedup": None, "max_latency_ms": None, "max_rss_mb": None,
    }  # fmt: skip


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


def _result(
    verdict: Verdict, *passed: bool | None, data: bool = True, needed: int | None = None
) -> ValidateResult:
    accuracy = Accuracy("accuracy", 0.9, 0.8, 0.11, 0.08, 0.13, 500, needed) if data else None
    gates = tuple(Gate(f"g{index}", 1.0, 2.0, one) for index, one in enumerate(passed))
    return ValidateResult(verdict, accuracy, {}, None, SIZE, gates, {}, {})


@pytest.mark.parametrize(
    ("outcome", "passed", "told"),
    [
        ("pass", (None, False), "The gate g1 was missed: limit 1.00 MB, measured 2.00 MB."),
        ("pass", (False, False), "2 gates were missed: g0 (limit"),
        (
            "fail",
            (None,),
            "The drop in accuracy (11.00 % of the original's, 95 % interval 8.00 %"
            " to 13.00 %) is over the budget of 1%",
        ),
        ("inconclusive", (True,), "is not proved"),
        ("pass", (True, None), "gate g1 was not decided"),
    ],
)
def test_the_worst_is_told_first(
    outcome: Verdict, passed: tuple[bool | None, ...], told: str
) -> None:
    """Missed gates, then accuracy, then what was left undecided."""
    assert told in reason(_result("fail", *passed), "1%", outcome)


@pytest.mark.parametrize(
    ("outcome", "passed", "word"),
    [("fail", (None, False), "Missed"), ("inconclusive", (True, None), "Not decided")],
)
def test_one_sentence_names_all(
    outcome: Verdict, passed: tuple[bool | None, ...], word: str
) -> None:
    """The accuracy and the gates, of those that share the verdict."""
    assert reason(_result(outcome, *passed), "1%", outcome) == (
        f"{word}: the drop in accuracy (11.00 % of the original's, 95 % interval 8.00 % to"
        " 13.00 %; budget 1%) and g1 (limit 1.00 MB, measured 2.00 MB)."
    )


def test_a_problem_is_told_beside_the_gates() -> None:
    """What no figure shows comes first."""
    said = reason(_result("fail", False), "1%", "fail", "NaN everywhere.")
    assert said.startswith("NaN everywhere. Besides, missed: g0 (limit")


def test_points_are_called_points() -> None:
    """A drop of 0.24 points is no per cent of anything."""
    result = _result("fail")
    assert result.accuracy is not None
    accuracy = replace(result.accuracy, drop=0.0024, drop_unit="points")
    said = reason(replace(result, accuracy=accuracy), "0.1pt", "fail")
    assert "(0.24 points, 95 % interval 8.00 points to 13.00 points)" in said


def _distance(reference: list[float], candidate: list[float], *, exact: bool = False) -> Distance:
    found = Distance(exact=exact)
    found.add(np.array([reference]), np.array([candidate]), choices=True)
    return found


def test_the_tolerance_is_a_gate() -> None:
    """Told of the output that uses up most of what the precision allows."""
    distances = {"near": _distance([1.0, 2.0], [1.0, 2.0]), "far": _distance([1, 2], [1, 2.0001])}
    (gate,), (note,) = tolerance_gate(distances, TOLERANCES["fp32"])
    assert (gate.name, gate.passed) == ("tolerance", True)
    assert gate.limit == pytest.approx(2.1e-4)
    assert gate.value == pytest.approx(1e-4)
    assert note.endswith("limits the largest difference of the output far.")
    distances["far"] = _distance([1, 2], [2, 1])
    (gate,), (note,) = tolerance_gate(distances, TOLERANCES["int8"])
    assert gate.passed is False
    assert (gate.limit, gate.value) == (pytest.approx(0.01), pytest.approx(0.2))
    assert "limits 1 − cosine" in note


def test_the_tolerance_of_what_has_no_figure() -> None:
    """Whole numbers by their share, another shape by failing, nothing at all by no gate."""
    whole = {"ids": _distance([1, 2], [1, 3], exact=True)}
    (gate,), (note,) = tolerance_gate(whole, TOLERANCES["fp32"])
    assert (gate.limit, gate.value, gate.passed) == (0, 0.5, False)
    assert "the share of elements that differ" in note
    whole["ids"].mismatch = "the shape [1] in the bundle, [2] in PyTorch"
    (gate,), _ = tolerance_gate(whole, TOLERANCES["fp32"])
    assert (gate.value, gate.passed) == (None, False)
    assert tolerance_gate({}, TOLERANCES["fp32"]) == ((), ())


def test_a_reason_without_figures() -> None:
    """Nothing to compare, or a problem that no figure shows."""
    bare = _result("fail", data=False)
    assert "no output that could be compared" in reason(bare, "1%", "fail")
    assert reason(bare, "1%", "fail", "NaN everywhere.") == "NaN everywhere."


def test_the_remedy_is_for_what_was_undecided() -> None:
    """A quieter machine settles no accuracy."""
    open_ = _result("inconclusive", None, needed=360)
    assert "quieter" in remedy(open_, "pass")
    both = remedy(open_, "inconclusive")
    assert "About 360 rows" in both
    assert "DATA of some 515 rows" in both
    assert "quieter" in both
    open_ = _result("inconclusive")
    assert open_.accuracy is not None
    unbounded = replace(open_, accuracy=replace(open_.accuracy, drop_upper_95=math.inf))
    assert "metric" in remedy(unbounded, "inconclusive")
    assert "more exact" in remedy(_result("fail"), "fail")


def test_a_drop_on_the_budget_is_settled_by_no_rows() -> None:
    """More data is no remedy: the least budget that would have held is."""
    accuracy = Accuracy("accuracy", 0.9, 0.9, 0.0, -0.0024, 0.0024, 1500, None)
    result = replace(_result("inconclusive"), accuracy=accuracy)
    said = remedy(result, "inconclusive")
    assert "No number of rows would prove it" in said
    assert "--max-drop 0.24% would have held" in said
    assert "Give DATA" not in said
    points = replace(result, accuracy=replace(accuracy, drop_unit="points"))
    assert "--max-drop 0.24pt would" in remedy(points, "inconclusive")


def _left_open(cause: str | None) -> ValidateResult:
    """A speed that was not decided."""
    timed = _timed(noisy=cause is not None)
    noise = replace(timed.noise, causes=() if cause is None else (cause,))
    gate = Gate("not_slower" if cause else "max_latency_ms", 1.0, 0.6, None)
    return replace(
        _result("pass", data=False),
        verdict="inconclusive",
        gates=(gate,),
        latency=_latency(0.5, 0.7),
        timing=replace(timed, noise=noise),
    )


def test_noise_is_named_with_what_ends_it() -> None:
    """The error tells its causes, the hint what can be done about them."""
    result = _left_open("other programs used 44% of the CPUs")
    said = reason(result, "1%", "pass")
    assert "The gate not_slower was not decided: limit 1.00×, measured 0.600×, at most" in said
    assert "The machine was noisy while it was timed (other programs used 44% of the CPUs)" in said
    hint = remedy(result, "pass")
    assert all(word in hint for word in ("Quiet the machine", "--budget", "--no-latency"))
    assert "--no-latency" not in remedy(result, "pass", timing_asked=True)
    wide = _left_open(None)
    assert "noisy" not in reason(wide, "1%", "pass")
    assert "--no-latency" not in remedy(wide, "pass")


TARGET = {"name": "t", "limits": {"size_mb": 2, "rss_mb": 100.0, "latency_ms": 50}}


def test_the_targets_limits_are_gates_unless_given() -> None:
    """What a person says wins; notes tell which come from the target."""
    limits, notes = with_target(Limits(max_rss_mb=7.0), TARGET, timed=True)
    taken = frozenset({"max_latency_ms", "max_size_mb"})
    assert limits == Limits(None, 50.0, 2.0, 7.0, of_target=taken)
    assert notes == ("Limits of the target t: max_latency_ms 50, max_size_mb 2.",)


def test_limits_that_need_a_measurement_wait_for_one() -> None:
    """Without one they are left out, and that is said."""
    limits, notes = with_target(Limits(), TARGET, timed=False)
    assert limits == Limits(max_size_mb=2.0, of_target=frozenset({"max_size_mb"}))
    assert "Not judged without a measurement: max_latency_ms, max_rss_mb" in notes[1]


@pytest.mark.parametrize("target", [None, {}, {"name": "t"}, {"limits": {"size_mb": "2"}}])
def test_a_bundle_without_limits_has_none(target: dict[str, object] | None) -> None:
    """Exported bundles have no target, and a target need not have limits."""
    assert with_target(Limits(), target, timed=True) == (Limits(), ())


@pytest.mark.parametrize(
    ("verdict", "passed"), [("pass", True), ("fail", False), ("inconclusive", None)]
)
def test_the_budget_is_a_gate(verdict: Verdict, passed: bool | None) -> None:
    """Told among the gates, with the drop that it limits."""
    accuracy = Accuracy("accuracy", 0.9, 0.89, 0.011, 0.0, 0.02, 500, None)
    gate = drop_gate(accuracy, Budget(0.01, "relative"), verdict)
    assert gate == Gate("max_drop", 0.01, 0.011, passed)
    assert combine(verdict, [gate]) == verdict
    result = ValidateResult(verdict, accuracy, {}, None, SIZE, (gate,), {}, {})
    said = reason(result, "1%", verdict)
    assert ("The drop in accuracy (1.10 %" in said) == (verdict != "pass")


@pytest.mark.parametrize(
    ("noisy", "limit", "typed", "passed"),
    [
        (True, 50.0, False, True),
        (True, 50.0, True, None),
        (True, 1.0, False, None),
        (False, 1.0, False, False),
    ],
)
def test_noise_does_not_doubt_a_limit_that_nobody_typed(
    noisy: bool, limit: float, typed: bool, passed: bool | None
) -> None:
    """A median of 5 ms is within the target's limit of 50; beyond it noise still decides."""
    names = frozenset() if typed else frozenset({"max_latency_ms"})
    limits = Limits(max_latency_ms=limit, of_target=names)
    assert _only(limits, _latency(1.2, 1.4), noisy=noisy).passed is passed
