"""Turns of each scenario: arrivals, waiting, concurrent callers."""

from __future__ import annotations

import threading
import time
from itertools import islice

import numpy as np
import pytest

from edgekit.runtime import turns
from edgekit.runtime.scenarios import Scenario, make_scenario
from edgekit.runtime.timing import Turn


def test_arrivals_are_poissons() -> None:
    """Exponential gaps: mean and standard deviation are 1/qps, and the seed decides."""
    due = np.array(list(islice(turns.arrivals(50.0, 1e9, 0, 1), 20_000)))
    gaps = np.diff(due)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)
    assert list(turns.arrivals(50.0, 1.0, 0, 1)) == due[due < 1.0].tolist()
    assert list(turns.arrivals(50.0, 1.0, 0, 2)) != due[due < 1.0].tolist()


def test_arrivals_may_outlast_the_turn() -> None:
    """A turn too short for its least requests goes on until they have come."""
    assert len(list(turns.arrivals(1.0, 0.0, 5, 0))) == 5


class Clock:
    """A clock that moves only when somebody sleeps or computes."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        """Nanoseconds since it was made."""
        return self.now

    def perf_counter(self) -> float:
        """Seconds since it was made."""
        return self.now / 1e9

    process_time = perf_counter

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all turns."""
    made = Clock()
    monkeypatch.setattr(turns, "time", made)
    return made


def test_a_latency_counts_from_when_the_request_was_due(clock: Clock) -> None:
    """A stall is paid by all requests that came meanwhile, not only by the one it hit."""
    calls: list[int] = []

    def stalls_once() -> int:
        calls.append(1)
        clock.sleep(0.2 if len(calls) == 5 else 0.001)
        return len(calls)

    due = list(turns.arrivals(100.0, 0.6, 3, 1))
    turn = turns.take_server_turn(stalls_once, seconds=0.6, qps=100.0, seed=1, discard=0)
    free = 0.0
    expected = []
    for index, arrival in enumerate(due):
        free = max(free, arrival) + (0.2 if index == 4 else 0.001)
        expected.append((free - arrival) * 1e9)
    assert turn.nanoseconds == pytest.approx(expected, abs=100)
    assert sum(value > 20e6 for value in turn.nanoseconds) > 10
    assert turn.last == len(calls) == turn.inferences == len(due)
    assert turn.busy_seconds == pytest.approx(0.2 + 0.001 * (len(due) - 1))
    assert turn.wall_seconds >= due[-1]


def test_a_queue_that_grows_is_given_up(clock: Clock) -> None:
    """Requests that could never be answered do not hold the measurement up."""
    turn = turns.take_server_turn(lambda: clock.sleep(0.01), seconds=0.1, qps=5000.0, discard=0)
    assert turn.wall_seconds == pytest.approx(0.21, abs=0.011)
    assert 20 <= turn.inferences <= 22
    assert turn.busy_seconds == pytest.approx(turn.wall_seconds, abs=0.001)
    # Of some 500 that came; nobody is forgotten.
    assert turn.inferences + turn.given_up == len(list(turns.arrivals(5000.0, 0.1, 3, 0)))
    assert turn.given_up > 400


def test_sparse_requests_come_after_a_pause(clock: Clock) -> None:
    """As many as fit, none before its pause, nothing run in advance."""
    seen: list[float] = []

    def run() -> None:
        seen.append(clock.perf_counter())
        clock.sleep(0.01)

    turn = turns.take_sparse_turn(run, seconds=0.15, interval=0.05)
    assert seen == pytest.approx([0.05, 0.11, 0.17])
    assert turn.nanoseconds == (10_000_000,) * 3
    assert turn.busy_seconds == pytest.approx(0.03)
    assert turn.wall_seconds == pytest.approx(0.18)
    assert turns.take_sparse_turn(run, seconds=0.0, interval=0.01).inferences == 1


def test_offline_counts_all_callers() -> None:
    """Each of them asks at the same time as the others."""
    threads: set[int] = set()

    def nap() -> None:
        threads.add(threading.get_ident())
        time.sleep(0.01)

    turn = turns.take_offline_turn(nap, seconds=0.0, least=7, streams=3, discard=0)
    assert len(threads) == 3
    assert len(turn.nanoseconds) == turn.inferences == 9


def test_offline_keeps_a_selection_of_its_times() -> None:
    """The pipe is not filled, and every answer counts."""
    turn = turns.take_offline_turn(lambda: None, seconds=0.0, least=2500)
    assert turn.inferences == 2500
    assert len(turn.nanoseconds) == 834


def test_a_failing_caller_fails_the_turn() -> None:
    """The error of one of many callers is the turn's."""

    def fails() -> None:
        raise RuntimeError("no device")

    with pytest.raises(RuntimeError, match="no device"):
        turns.take_offline_turn(fails, seconds=0.1, streams=2, discard=0)


@pytest.mark.parametrize(("together", "expected"), [(150, 4), (90, 1)])
def test_more_callers_are_taken_where_they_help(
    monkeypatch: pytest.MonkeyPatch, together: int, expected: int
) -> None:
    """The number with more answers per second."""

    def take(run: object, *, seconds: float, least: int, streams: int) -> Turn[None]:
        return Turn((), 1.0, 1.0, 1.0, 100 if streams == 1 else together, None)

    monkeypatch.setattr(turns, "take_offline_turn", take)
    assert turns.better_streams(lambda: None, seconds=0.1, most=4) == expected


@pytest.mark.parametrize(
    "scenario",
    [
        make_scenario("single-stream"),
        make_scenario("server", qps=1000.0),
        make_scenario("sparse", interval=0.001),
        make_scenario("offline"),
    ],
    ids=lambda scenario: scenario.name,
)
def test_every_scenario_has_its_turn(scenario: Scenario) -> None:
    """With at least the inferences asked for, and what the last one gave."""
    turn = turns.take(scenario, lambda: "answer", seconds=0.0, least=3)
    assert turn.last == "answer"
    assert len(turn.nanoseconds) == turn.inferences >= 3
    assert min(turn.nanoseconds) >= 0


def test_a_rotation_goes_on_where_it_is_told() -> None:
    """One call after the other, round and round."""
    said = turns.Rotation([lambda: "a", lambda: "b", lambda: "c"])
    assert [said() for _ in range(4)] == ["a", "b", "c", "a"]
    said.begin(-1)
    assert [said() for _ in range(3)] == ["c", "a", "b"]
