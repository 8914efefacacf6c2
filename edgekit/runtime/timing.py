"""Timing one contender inside its own process: warm-up, single inferences, quantiles, memory."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.core.measurements import LEAST_SAMPLES

Floats = NDArray[np.float64]
Answer = TypeVar("Answer")

_WINDOW = 20
_FLAT = 0.05
FEWEST_RUNS = 5
# More of a model that takes microseconds would only fill the pipe.
MOST_SAMPLES = 1000
_ECDF_POINTS = 200
# A process is at rest when it took less than this share of one core while it was looked at.
_AT_REST = 0.1
_LOOK_SECONDS = 0.005


@dataclass(frozen=True)
class WarmUp:
    """How a contender warmed up; ``flat`` is False when the time ran out first.

    ``typical_ms`` is the median of the last runs: enough to plan with, not to report.
    """

    runs: int
    seconds: float
    flat: bool
    typical_ms: float


@dataclass(frozen=True)
class Turn(Generic[Answer]):
    """Some inferences: their wall-clock times, and the CPU time of the whole process.

    ``busy_seconds`` is the part of ``wall_seconds`` in which there was something to answer;
    ``inferences`` may be more than the times that were kept; ``last`` is what the last one gave;
    ``given_up`` counts requests that waited for so long that nobody answered them.
    """

    nanoseconds: tuple[int, ...]
    wall_seconds: float
    cpu_seconds: float
    busy_seconds: float
    inferences: int
    last: Answer | None
    given_up: int = 0


def warm_up(run: Callable[[], object], *, seconds: float, fewest: int = FEWEST_RUNS) -> WarmUp:
    """Run until the times have no slope any more, or for `seconds`, `fewest` times at least.

    The slope is Theil and Sen's over the last 20 runs: the median over all pairs, which one
    interrupted run does not move. Flat means: less than 5 % over those runs, either way.
    """
    times: list[int] = []
    started = time.perf_counter()
    while True:
        times.append(_once(run))
        elapsed = time.perf_counter() - started
        recent = times[-_WINDOW:]
        flat = len(times) >= _WINDOW and is_flat(recent)
        if flat or (elapsed >= seconds and len(times) >= fewest):
            typical = float(np.median(recent)) / 1e6
            # Of fewer runs nobody can tell a slope.
            settled = flat or len(times) < FEWEST_RUNS or is_flat(recent)
            return WarmUp(len(times), elapsed, settled, typical)


def is_flat(times: Sequence[float]) -> bool:
    """Whether the times rise or fall by less than 5 % of their median from first to last."""
    values = np.asarray(times, dtype=np.float64)
    later, earlier = np.tril_indices(len(values), -1)
    slope = float(np.median((values[later] - values[earlier]) / (later - earlier)))
    return abs(slope) * (len(values) - 1) < _FLAT * float(np.median(values))


def take_turn(
    run: Callable[[], Answer], *, seconds: float, least: int = 3, discard: int = 2
) -> Turn[Answer]:
    """Time single inferences for `seconds`, `least` to 1,000 of them, after a few untimed ones.

    The untimed ones bring caches and thread pools back after another contender's turn.
    """
    times: list[int] = []
    last: Answer | None = None
    with collector_off():
        for _ in range(discard):
            run()
        cpu, wall = time.process_time(), time.perf_counter()
        deadline = wall + seconds
        while len(times) < least or (len(times) < MOST_SAMPLES and time.perf_counter() < deadline):
            # Two answers at a time would be memory that no app takes.
            last = None
            started = time.perf_counter_ns()
            last = run()
            times.append(time.perf_counter_ns() - started)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Turn(tuple(times), wall, cpu, wall, len(times), last)


def come_to_rest(*, most: float = 0.5) -> bool:
    """Sleep until the threads of this process have stopped computing; False after `most` seconds.

    A pool whose threads spin while they wait goes on after its last call, 35 ms with ONNX Runtime
    1.31: on a machine with as many cores as threads that doubles the latency of who comes next.
    """
    deadline = time.monotonic() + most
    while True:
        begun, busy = time.monotonic(), time.process_time()
        time.sleep(_LOOK_SECONDS)
        if time.process_time() - busy < _AT_REST * (time.monotonic() - begun):
            return True
        if time.monotonic() > deadline:
            return False


@contextmanager
def collector_off() -> Iterator[None]:
    """Garbage is collected before and not meanwhile: its pauses are the harness's.

    Calls that warm up again belong inside: a collection empties caches and lets pools fall asleep.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def heap_set_aside() -> Iterator[None]:
    """Turns inside collect only what they make themselves: each of them begins with a collection.

    Walking through all that torch and transformers hold takes longer than most models do. What an
    app has frozen itself stays so, and then that is what is set aside.
    """
    gc.collect()
    own = gc.get_freeze_count() == 0
    if own:
        gc.freeze()
    try:
        yield
    finally:
        if own:
            gc.unfreeze()


def _once(run: Callable[[], object]) -> int:
    started = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - started


def quantile(processes: Sequence[Floats], q: float) -> float:
    """The q-quantile of all samples, in their unit; every process weighs the same.

    The smallest value that at least q of the weight does not exceed: no interpolation, so that a
    percentile is a time that was measured.
    """
    values, reached = _distribution(processes)
    # The sum of a thousand reciprocals is off by some 1e-13.
    place = int(np.searchsorted(reached, q - 1e-9))
    return float(values[min(place, len(values) - 1)])


def ecdf(processes: Sequence[Floats]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(values, shares) of the empirical distribution, at 200 of its steps at most.

    `shares[i]` of the weight is at most `values[i]`; every process weighs the same.
    """
    values, reached = _distribution(processes)
    if len(values) > _ECDF_POINTS:
        wanted = np.arange(1, _ECDF_POINTS + 1) / _ECDF_POINTS
        places = np.searchsorted(reached, wanted - 1e-9).clip(max=len(values) - 1)
        values, reached = values[places], reached[places]
    return tuple(values.tolist()), tuple(reached.round(9).tolist())


def _distribution(processes: Sequence[Floats]) -> tuple[Floats, Floats]:
    """All samples in order, and the share of the weight up to each."""
    values = np.concatenate(processes)
    weights = np.concatenate([np.full(len(times), 1 / len(times)) for times in processes])
    order = np.argsort(values, kind="stable")
    return values[order], np.cumsum(weights[order]) / len(processes)


def percentile(processes: Sequence[Floats], q: float) -> float | None:
    """The q-quantile, or None without the samples for it (see `LEAST_SAMPLES`).

    Infinite samples count as slower than all others; a quantile among them is None.
    """
    count = sum(int(np.isfinite(times).sum()) for times in processes)
    if count < LEAST_SAMPLES.get(q, math.inf):
        return None
    found = quantile(processes, q)
    return found if math.isfinite(found) else None


def resident_bytes() -> int | None:
    """The memory that this process holds now, or None where the system does not tell."""
    return _kibibytes("status", "VmRSS")


def proportional_bytes() -> int | None:
    """What this process holds now, pages shared with others in part (PSS, Linux), or None.

    It moves when another process maps the same files or ends; RSS does not.
    """
    return _kibibytes("smaps_rollup", "Pss")


def forget_peak() -> bool:
    """Let the peak begin again from what is held now (Linux); whether that worked.

    Without it a peak holds what the imports took for a moment, too.
    """
    try:
        # proc(5): 5 resets the peak resident set size to the current one.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """The most memory that this process has held, or None where the system does not tell."""
    peak = _kibibytes("status", "VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    # Not used on Linux: there ru_maxrss of a new process starts at its *parent's* peak, because
    # exec keeps the old image's high-water mark.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _kibibytes(file: str, key: str) -> int | None:
    """A line of one of this process's files in /proc, in bytes."""
    try:
        text = Path("/proc/self", file).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None
