"""What the records of a bench come to: rows, ratios, noise and notes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.evaluation import comparison
from edgekit.evaluation.rounds import Plan
from edgekit.runtime.machine import Snapshot
from edgekit.runtime.records import Record, TurnSums
from edgekit.runtime.scenarios import Scenario
from edgekit.runtime.workloads import Workload

WORKLOAD = Workload(1, 16, {})


def record(name: str, milliseconds: float, error: str | None = None, **facts: object) -> Record:
    """Five quiet processes of a given speed at one workload."""
    generator = np.random.default_rng(len(name))
    times = {
        number: list(milliseconds * (1 + generator.exponential(0.01, 50))) for number in range(5)
    }
    return Record(
        name, error=error, facts=dict(facts), times={0: times}, warm_flat=[True],
        turns={0: {number: [TurnSums(25, 1.0, 1.0, 1.0, 25)] * 2 for number in times}},
        wall_seconds=1.0, cpu_seconds=1.0,
    )  # fmt: skip


QUIET = Snapshot(wall=0, load=None, busy=None, stolen=None, own=0, throttled=None)


def test_a_contender_like_itself_is_quiet() -> None:
    """Without causes and with an unresolved ratio to itself."""
    first, twin = record("a", 5), record("aa", 5)
    noise = comparison.judge_noise(first, twin, QUIET, replace(QUIET, wall=1), 1, [first], 0)
    assert (noise.verdict, noise.causes) == ("quiet", ())
    assert noise.aa_low is not None
    assert noise.aa_high is not None
    assert noise.aa_low <= 1 <= noise.aa_high


def test_a_contender_unlike_itself_is_noise() -> None:
    """The cause says so first."""
    first, twin = record("a", 5), record("aa", 6)
    noise = comparison.judge_noise(first, twin, QUIET, replace(QUIET, wall=1), 1, [first], 0)
    assert noise.verdict == "noisy"
    assert "slower than itself" in noise.causes[0]


def test_a_failed_twin_is_noise() -> None:
    """One of two runs of the same thing crashed: that is worth knowing."""
    first, twin = record("a", 5), record("aa", 5, error="it ended")
    noise = comparison.judge_noise(first, twin, QUIET, replace(QUIET, wall=1), 1, [first], 0)
    assert noise.verdict == "noisy"
    assert noise.aa_ratio is None
    assert "it ended" in noise.causes[0]


def test_ratios_are_against_the_first() -> None:
    """Faster is above 1; a failed contender has none."""
    records = [record("pytorch", 8), record("b", 4), record("cc", 9), record("d", 1, error="x")]
    found = comparison.make_ratios(records, [WORKLOAD], 0)
    assert [(one.a, one.b, one.verdict) for one in found] == [
        ("pytorch", "b", "faster"), ("pytorch", "cc", "slower"),
    ]  # fmt: skip
    assert found[0].value == pytest.approx(2, rel=0.02)


def test_what_a_person_should_know_is_noted() -> None:
    """Failures and unfinished warm-ups, by name."""
    cold = record("a", 5)
    cold.warm_flat = [True, False]
    notes = comparison.make_notes([cold, record("b", 5, error="it hung")], [WORKLOAD], [])
    assert "warm-up ended in 1 of 2" in notes[0]
    assert "b could not be measured: it hung" in notes[1]


def test_the_median_has_its_interval() -> None:
    """It goes with the row to `validate`, which judges latency by its bad end."""
    row = comparison.row(record("a", 5), 0, WORKLOAD, 7, 0)
    assert row.p50_ms is not None
    assert row.p50_low_ms is not None
    assert row.p50_high_ms is not None
    assert 4.5 < row.p50_low_ms <= row.p50_ms <= row.p50_high_ms < 5.5
    failed = comparison.row(record("a", 5, error="it hung"), 0, WORKLOAD, 7, 0)
    assert failed.p50_high_ms is None


def test_offline_ratios_are_those_of_throughput() -> None:
    """Calls of two streams take longer each, and more of them are done."""
    one, two = record("one", 5), record("two", 8)
    for each, streams, wall in ((one, 1, 0.25), (two, 2, 0.2)):
        each.scenario = Scenario("offline", streams=streams)
        each.turns = {0: {number: [TurnSums(50, wall, wall, wall, 50)] * 4 for number in range(5)}}
    (found,) = comparison.make_ratios([one, two], [WORKLOAD], 0)
    assert found.value == pytest.approx(0.25 / 0.2)
    assert found.verdict == "faster"


def test_a_run_is_precise_when_every_ratio_is() -> None:
    """One wide interval keeps it going, a contender that failed does not."""
    a, b, wild = record("a", 5), record("bb", 6), record("ccc", 7)
    wild.times = {0: {number: [7.0 + number] * 50 for number in range(5)}}
    lost = record("d", 5, error="it hung")
    assert comparison.precise([(a, b), (a, lost)], 1, precision=0.02, seed=0)
    assert not comparison.precise([(a, b), (a, wild)], 1, precision=0.02, seed=0)
    assert not comparison.precise([(a, b)], 1, precision=0.0, seed=0)
    assert not comparison.precise([(a, lost)], 1, precision=0.02, seed=0)


@pytest.mark.parametrize(
    ("mode", "threads", "expected"),
    [
        ("eager", [2, 2], "eager, 2 threads"),
        ("eager", [1, 1], "eager, 1 thread"),
        ("bfloat16", [2, 1], "bfloat16, 1 or 2 threads"),
    ],
)
def test_every_row_of_the_reference_says_what_it_ran_with(
    mode: str, threads: list[int], expected: str
) -> None:
    """Its processes may have chosen differently; bundles have chosen beforehand."""
    reference = record("pytorch", 5, mode=f"{mode}, inference_mode")
    reference.settings = {
        0: [{"threads": count, "memory_format": "contiguous"} for count in threads]
    }
    assert comparison.row(reference, 0, WORKLOAD, 7, 0).settings == expected
    assert comparison.row(record("bundle", 5), 0, WORKLOAD, 7, 0).settings is None


def test_other_threads_than_the_runs_are_said() -> None:
    """Of a bundle that has chosen fewer."""
    made = record("bundle", 5, threads=1)
    assert comparison.row(made, 0, WORKLOAD, 7, 0, threads=2).settings == "1 thread"
    assert comparison.row(made, 0, WORKLOAD, 7, 0, threads=1).settings is None


def test_callers_at_a_time_are_said() -> None:
    """Of the offline scenario, where they make the difference."""
    made = record("bundle", 5)
    made.streams = {0: [2, 2]}
    assert comparison.settings_text(made, 0) == "2 streams"
    assert comparison.settings_text(made, 1) is None


def test_a_rate_that_was_not_reached_is_noted() -> None:
    """With the highest rate that was."""
    slow = record("slow", 50)
    slow.scenario = Scenario("server", qps=100.0)
    slow.turns = {0: {0: [TurnSums(20, 1.0, 1.0, 1.0, 20)]}}
    (note,) = comparison.make_notes([slow], [WORKLOAD], [])
    assert "slow did not keep up with 100 requests per second at 1×16" in note
    assert "20" in note


@pytest.mark.parametrize(
    ("rounds", "error", "expected"),
    [(5, None, "precision"), (8, None, "budget"), (2, None, "budget"), (5, "it hung", "budget")],
)
def test_the_protocol_says_what_ended_the_run(
    rounds: int, error: str | None, expected: str
) -> None:
    """Ratios that were precise enough, or the budget; not the failure of all."""
    made = record("a", 5, error=error)
    made.loads = [1.0] * rounds
    protocol = comparison.describe_protocol(
        [made], Plan(1, 8, 10.0), [WORKLOAD], threads=1, precision=0.02, artifacts=[]
    )
    assert (protocol["stopped"], protocol["rounds"]) == (expected, rounds)


def _timed(seconds: float, *, error: str | None = None, samples: int = 50) -> Record:
    made = record("a", 5, error=error)
    made.wall_seconds = seconds
    made.turns = {0: {0: [TurnSums(samples, seconds, seconds, seconds, samples)]}}
    return made


def _protocol(*records: Record, beside: list[Record] | None = None) -> dict[str, object]:
    return comparison.describe_protocol(
        list(records), Plan(1, 5, 30.0), [WORKLOAD], threads=1, precision=0.02, artifacts=[],
        beside=beside or [],
    )  # fmt: skip


def test_all_that_was_timed_counts_to_the_budget() -> None:
    """The second copy of the first and the tried options as well, which have no rows."""
    protocol = _protocol(_timed(10), _timed(10), beside=[_timed(10)])
    assert protocol["measured_seconds"] == 30
    assert "untimed" not in protocol


def test_what_was_left_of_the_budget_is_told() -> None:
    """Of one that failed, and of turns that end early."""
    protocol = _protocol(_timed(10), _timed(1, error="it hung"), beside=[_timed(10)])
    assert protocol["untimed"] == "who failed leaves its part unused"
    protocol = _protocol(_timed(5, samples=1000), _timed(10), beside=[_timed(10)])
    assert protocol["untimed"] == "a turn ends after 1,000 predictions"
