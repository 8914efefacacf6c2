"""Timing: warm-up, turns, quantiles with their least samples, memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from edgekit.runtime import timing


def test_times_that_fall_are_not_flat() -> None:
    """A slope of more than 5 % over the window means: still warming up."""
    noise = np.random.default_rng(0).normal(0, 0.5, 20)
    assert timing.is_flat(list(100 + noise))
    assert not timing.is_flat(list(100 - np.arange(20) + noise))
    assert not timing.is_flat(list(100 + np.arange(20) + noise))


def test_one_interrupted_run_is_no_slope() -> None:
    """An outlier at either end does not make a flat series steep."""
    for place in (0, 10, 19):
        times = [100.0] * 20
        times[place] = 5000.0
        assert timing.is_flat(times)


def test_warm_up_ends_when_nothing_changes() -> None:
    """A steady call is warm after one window; how many runs that took is recorded."""
    result = timing.warm_up(lambda: time.sleep(0.001), seconds=30)
    assert result.flat
    assert result.runs >= 20
    assert result.typical_ms >= 1


def test_warm_up_ends_when_its_time_is_spent() -> None:
    """A call that slows down for ever is given up on, and called not flat."""
    calls = iter(range(10_000))

    def slower() -> None:
        time.sleep(0.0005 * next(calls))

    result = timing.warm_up(slower, seconds=0.1)
    assert not result.flat
    assert 5 <= result.runs < 100


def test_a_turn_times_single_calls() -> None:
    """At least as many as asked for, after the untimed ones, with wall and CPU seconds."""
    calls: list[int] = []
    turn = timing.take_turn(lambda: calls.append(1), seconds=0.0, least=7, discard=3)
    assert len(turn.nanoseconds) == 7
    assert len(calls) == 10
    assert turn.wall_seconds * 1e9 >= sum(turn.nanoseconds)
    assert turn.cpu_seconds >= 0


def test_a_turn_keeps_its_last_answer() -> None:
    """And never two answers at a time: that is memory that no app takes."""
    alive: list[int] = []
    most: list[int] = []

    class Answer:
        def __init__(self) -> None:
            alive.append(1)
            most.append(len(alive))

        def __del__(self) -> None:
            alive.pop()

    turn = timing.take_turn(Answer, seconds=0.0, least=4, discard=0)
    assert isinstance(turn.last, Answer)
    assert max(most) == 1
    assert (turn.inferences, turn.busy_seconds) == (4, turn.wall_seconds)


def test_a_turn_ends_after_a_thousand_calls() -> None:
    """A model of microseconds does not fill the pipe."""
    turn = timing.take_turn(lambda: None, seconds=60, least=1)
    assert len(turn.nanoseconds) == 1000


def test_the_collection_comes_before_what_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first timed call follows an untimed one, not a pause that lets pools fall asleep."""
    order: list[str] = []
    monkeypatch.setattr(timing.gc, "collect", lambda: order.append("collected"))
    timing.take_turn(lambda: order.append("ran"), seconds=0.0, least=1, discard=1)
    assert order == ["collected", "ran", "ran"]


class Clock:
    """Time that passes in sleep alone, in which a pool spins until `until` seconds are over."""

    def __init__(self, until: float, share: float = 2.0) -> None:
        self.now = self.used = 0.0
        self.until, self.share = until, share

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self.now

    def process_time(self) -> float:
        """The CPU seconds of all threads."""
        return self.used

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.used += self.share * max(0.0, min(seconds, self.until - self.now))
        self.now += seconds


def test_a_spinning_pool_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """35 ms of it are slept through, and hardly more."""
    clock = Clock(until=0.035)
    monkeypatch.setattr(timing, "time", clock)
    assert timing.come_to_rest()
    assert 0.035 <= clock.now < 0.05


def test_a_process_at_rest_is_waited_for_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a twentieth of a core is no pool that spins."""
    clock = Clock(until=60.0, share=0.05)
    monkeypatch.setattr(timing, "time", clock)
    assert timing.come_to_rest()
    assert clock.now < 0.01


def test_a_process_that_never_rests_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time it was given, not later."""
    clock = Clock(until=60.0, share=1.0)
    monkeypatch.setattr(timing, "time", clock)
    assert not timing.come_to_rest(most=0.2)
    assert clock.now < 0.22


def test_a_thread_that_spins_is_seen() -> None:
    """Of this very process, by the system's own clock."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        # On a busy machine it may get no processor for some of the looks.
        assert any(not timing.come_to_rest(most=0.0) for _ in range(200))
    finally:
        stop.set()
        thread.join()
    assert timing.come_to_rest(most=60.0)


def test_the_collector_rests_during_a_turn() -> None:
    """Its pauses are the harness's; afterwards it is as it was."""
    seen: list[bool] = []
    timing.take_turn(lambda: seen.append(gc.isenabled()), seconds=0.0, discard=0)
    assert not any(seen)
    assert gc.isenabled()
    gc.disable()
    try:
        timing.take_turn(lambda: None, seconds=0.0)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_turns_do_not_walk_what_was_there_before() -> None:
    """It is in no collection inside, and in all of them again afterwards."""
    gc.unfreeze()
    held = [[] for _ in range(10_000)]
    with timing.heap_set_aside():
        assert gc.get_freeze_count() >= len(held)
        timing.take_turn(lambda: None, seconds=0.0)
    assert gc.get_freeze_count() == 0


def test_what_an_app_has_frozen_stays_frozen() -> None:
    """Nobody else may undo that."""
    # In a process of its own: another thread of the tests' may let go of something frozen.
    program = """
import gc
from edgekit.runtime import timing
gc.freeze()
frozen = gc.get_freeze_count()
with timing.heap_set_aside():
    pass
assert gc.get_freeze_count() == frozen
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_of_one_process_are_numpys(q: float) -> None:
    """The smallest value that at least q of the samples do not exceed."""
    values = np.random.default_rng(1).random(101)
    assert timing.quantile([values], q) == np.quantile(values, q, method="inverted_cdf")


def test_processes_weigh_the_same() -> None:
    """A process that ran more often is not more of the truth."""
    few, many = np.array([1.0, 1.0, 1.0]), np.full(997, 2.0)
    assert timing.quantile([few, many], 0.5) == 1.0
    assert timing.quantile([few, many], 0.51) == 2.0


def test_the_distribution_has_few_steps() -> None:
    """Every value of a few, 200 steps of many; at each the share of what is not larger."""
    values, shares = timing.ecdf([np.array([3.0, 1.0]), np.array([2.0])])
    assert values == (1.0, 2.0, 3.0)
    assert shares == pytest.approx((0.25, 0.75, 1.0))
    samples = np.random.default_rng(2).random(5000)
    values, shares = timing.ecdf([samples])
    assert len(values) == len(shares) == 200
    assert (values[-1], shares[-1]) == (samples.max(), 1.0)
    for value, share in zip(values, shares, strict=True):
        assert share == pytest.approx((samples <= value).mean())


@pytest.mark.parametrize(("q", "least"), [(0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_no_percentile_without_its_samples(q: float, least: int) -> None:
    """MLPerf's numbers, over all processes together."""
    assert timing.percentile([np.ones(least - 1)], q) is None
    assert timing.percentile([np.ones(least // 2), np.ones(least - least // 2)], q) == 1.0


def test_an_unlisted_percentile_is_never_told() -> None:
    """Nobody has said how many samples it takes."""
    assert timing.percentile([np.ones(10_000)], 0.123) is None


def test_what_was_given_up_is_slower_than_all() -> None:
    """A percentile that falls among infinite samples is not told; lower ones are."""
    times = np.concatenate([np.arange(90.0), np.full(10, np.inf)])
    assert timing.percentile([times], 0.9) == 89.0
    assert timing.percentile([np.concatenate([times, np.full(60, np.inf)])], 0.9) is None
    assert timing.percentile([np.full(200, np.inf)], 0.5) is None


def test_the_peak_begins_again() -> None:
    """Memory that was given back before is not part of what follows."""
    before = timing.resident_bytes()
    if before is None:
        pytest.skip("this system does not tell a process's memory")
    block = np.ones(50_000_000, dtype=np.uint8)
    high = timing.peak_bytes()
    assert high is not None
    assert high >= before + 40_000_000
    del block
    if timing.forget_peak():
        peak = timing.peak_bytes()
        assert peak is not None
        assert peak < high - 30_000_000


def test_shared_memory_counts_in_part() -> None:
    """PSS is at most RSS, where the system tells it."""
    part, whole = timing.proportional_bytes(), timing.resident_bytes()
    if part is None or whole is None:
        pytest.skip("this system does not tell a process's PSS")
    assert 0 < part <= 1.1 * whole


def test_of_two_long_runs_nobody_tells_a_slope() -> None:
    """A request of many tokens warms up by itself; two of them are no trend."""
    times = iter((0.004, 0.0))
    found = timing.warm_up(lambda: time.sleep(next(times)), seconds=0.0, fewest=2)
    assert (found.runs, found.flat) == (2, True)
