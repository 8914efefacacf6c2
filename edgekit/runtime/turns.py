"""One turn of each scenario: who asks when, and what is timed.

The single-stream turn is `edgekit.runtime.timing.take_turn`.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Generic

from edgekit.runtime.scenarios import Scenario
from edgekit.runtime.timing import MOST_SAMPLES, Answer, Turn, collector_off, take_turn

_TRIALS = 2


class Rotation(Generic[Answer]):
    """A call that runs one of several after the other; safe from many threads."""

    def __init__(self, calls: Sequence[Callable[[], Answer]]) -> None:
        self._calls = calls
        self._numbers = itertools.count()

    def begin(self, number: int) -> None:
        """Go on with the call of a number, counted round and round."""
        self._numbers = itertools.count(number)

    def __call__(self) -> Answer:
        """Run the next one."""
        return self._calls[next(self._numbers) % len(self._calls)]()


def take(
    scenario: Scenario,
    run: Callable[[], Answer],
    *,
    seconds: float,
    least: int,
    discard: int = 2,
) -> Turn[Answer]:
    """A turn of about `seconds` of a scenario, with at least `least` inferences.

    Before them `discard` others run untimed, but for sparse requests.
    """
    if scenario.name == "server" and scenario.qps is not None:
        return take_server_turn(
            run,
            seconds=seconds,
            least=least,
            qps=scenario.qps,
            seed=scenario.seed,
            discard=discard,
        )
    if scenario.name == "sparse" and scenario.interval is not None:
        return take_sparse_turn(run, seconds=seconds, least=least, interval=scenario.interval)
    if scenario.name == "offline":
        return take_offline_turn(
            run, seconds=seconds, least=least, streams=scenario.streams or 1, discard=discard
        )
    return take_turn(run, seconds=seconds, least=least, discard=discard)


def take_server_turn(
    run: Callable[[], Answer],
    *,
    seconds: float,
    least: int = 3,
    qps: float,
    seed: int = 0,
    discard: int = 2,
) -> Turn[Answer]:
    """Answer requests that come at random times, first come first served.

    A latency counts from when the request was due, so that a stall shows in all that waited
    behind it; it includes the operating system's wake-up (some 0.1 ms). Requests that came within
    `seconds` are answered for twice as long at most: a queue that only grows has no latency.
    """
    times: list[int] = []
    last: Answer | None = None
    busy = given_up = 0
    with collector_off():
        for _ in range(discard):
            run()
        cpu, begun = time.process_time(), time.perf_counter_ns()
        until = begun + int(2e9 * seconds)
        for arrival in arrivals(qps, seconds, least, seed):
            due = begun + int(arrival * 1e9)
            wait = due - time.perf_counter_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            started = time.perf_counter_ns()
            if started > until and len(times) >= least:
                given_up += 1
                continue
            last = None
            last = run()
            ended = time.perf_counter_ns()
            times.append(ended - due)
            busy += ended - started
        wall, cpu = (time.perf_counter_ns() - begun) / 1e9, time.process_time() - cpu
    return Turn(tuple(times), wall, cpu, busy / 1e9, len(times), last, given_up)


def arrivals(qps: float, seconds: float, least: int, seed: int) -> Iterator[float]:
    """The seconds at which the requests of a Poisson process come, `least` at least."""
    generator = random.Random(seed)
    due = 0.0
    count = 0
    while True:
        due += generator.expovariate(qps)
        if due >= seconds and count >= least:
            return
        yield due
        count += 1


def take_sparse_turn(
    run: Callable[[], Answer], *, seconds: float, least: int = 1, interval: float
) -> Turn[Answer]:
    """Sleep, ask once, sleep again: what a request finds after the machine went quiet.

    Nothing is run untimed before. The CPU time includes what the process does while it waits.
    """
    count = max(1, least, int(seconds / interval + 1e-9))
    times: list[int] = []
    last: Answer | None = None
    with collector_off():
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            last = None
            time.sleep(interval)
            started = time.perf_counter_ns()
            last = run()
            times.append(time.perf_counter_ns() - started)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Turn(tuple(times), wall, cpu, sum(times) / 1e9, count, last)


def take_offline_turn(
    run: Callable[[], Answer],
    *,
    seconds: float,
    least: int = 3,
    streams: int = 1,
    discard: int = 2,
) -> Turn[Answer]:
    """Ask without a pause from `streams` threads at once for `seconds`.

    Of more than 1,000 times an even selection is kept; ``inferences`` counts all.
    """
    each = max(1, math.ceil(least / streams))
    together = Barrier(streams)

    def pull() -> tuple[list[int], float, float, Answer | None]:
        times: list[int] = []
        last: Answer | None = None
        together.wait()
        begun = time.perf_counter()
        while len(times) < each or time.perf_counter() < begun + seconds:
            last = None
            started = time.perf_counter_ns()
            last = run()
            times.append(time.perf_counter_ns() - started)
        return times, begun, time.perf_counter(), last

    with ThreadPoolExecutor(streams) as pool, collector_off():
        for _ in range(discard):
            run()
        cpu = time.process_time()
        pulled = [future.result() for future in [pool.submit(pull) for _ in range(streams)]]
        cpu = time.process_time() - cpu
    wall = max(ended for _, _, ended, _ in pulled) - min(begun for _, begun, _, _ in pulled)
    times = [value for found, _, _, _ in pulled for value in found]
    kept = times[:: math.ceil(len(times) / MOST_SAMPLES)]
    return Turn(tuple(kept), wall, cpu, wall, len(times), pulled[0][3])


def better_streams(run: Callable[[], object], *, seconds: float, most: int) -> int:
    """1 or `most` callers at a time, whichever gets more answers per second, tried in turns."""
    rates = {1: 0.0, most: 0.0}
    for _ in range(_TRIALS):
        for streams in rates:
            turn = take_offline_turn(run, seconds=seconds, least=2, streams=streams)
            rates[streams] = max(rates[streams], turn.inferences / turn.wall_seconds)
    return max(rates, key=lambda streams: rates[streams])
