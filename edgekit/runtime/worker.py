"""The measuring child's side of a bench: it does one thing per line it is told, and reports.

One JSON object per line, both ways; the child answers each line with one line and sleeps in a read
meanwhile. The parent says ``open`` (load, and infer for the first time), ``warm``, ``measure``
(one turn of a scenario), ``stages`` (where a prediction's time goes), ``largest`` (run what takes
most memory), ``stop``. End of input means stop: a child never outlives its parent by more than the
turn it is in.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeAlias, runtime_checkable

import numpy as np

from edgekit.core import cpu
from edgekit.core.errors import EdgekitError
from edgekit.runtime import timing, turns
from edgekit.runtime.drift import drift, sampled
from edgekit.runtime.scenarios import SINGLE_STREAM, Scenario
from edgekit.runtime.session import Array
from edgekit.runtime.tokens import Request, last_requests
from edgekit.runtime.workloads import Workload, load_workloads, save_outputs

Call: TypeAlias = Callable[[], Mapping[str, Array]]

_BLOCK = 1 << 20
_STREAM_SECONDS = 0.2
# A request of hundreds of steps warms up by itself, and needs no other before it.
_FEWEST_REQUESTS = 2
_LONG_MS = 500.0
# More than a process takes at a workload, so that no two turns begin with the same answer.
_TURNS = 1000
_DISCARDED = 2


class Measurable(Protocol):
    """An opened contender."""

    def facts(self) -> Mapping[str, object]:
        """What it really runs on: ``engine``, provider, precision, threads, version…"""
        ...

    def start(self, workload: Workload) -> Call:
        """One inference on the workload's ``feeds``, as a call without arguments.

        After a `prepare` it runs with the settings that were found there.
        """
        ...

    def prepare(self, workload: Workload) -> Call:
        """The same with the settings that suit the workload best, which may be tried out here.

        They stay until the next `prepare`; calls that were made before fit other settings.
        """
        ...


@runtime_checkable
class Staged(Protocol):
    """A measurable that can also tell the stages of a prediction apart."""

    def stages(self, workload: Workload, *, seconds: float) -> Mapping[str, float]:
        """Median milliseconds as `edgekit.core.measurements.Stages` names them, or nothing."""
        ...


@runtime_checkable
class Compared(Protocol):
    """A measurable whose timed calls tell less than others can be compared by."""

    def answer(self, workload: Workload) -> Mapping[str, Array]:
        """What the workload's first inference comes to, and what it takes to judge that."""
        ...


class Contender(Protocol):
    """A contender that is not opened yet."""

    def imports(self) -> None:
        """Import everything that running needs: the end of ``import_ms``, the base of memory."""
        ...

    def open(self) -> Measurable:
        """Load the model. Its time is ``load_ms``."""
        ...


def private_stdout() -> IO[str]:
    """The process's real stdout, while whatever libraries print goes to stderr from now on."""
    kept = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


def serve(
    contender: Contender,
    workloads: Path,
    commands: IO[str],
    replies: IO[str],
    *,
    threads: int | None = None,
) -> int:
    """Answer commands until ``stop`` or their end; the exit code of the process.

    `workloads` is a file of `save_workloads`. `threads` are what the contender was given: the most
    callers at a time that the offline scenario tries by itself.

    An expected failure is told in a line of its own and ends the child with the error's exit code;
    an unexpected one is a traceback on stderr and exit code 1.
    """

    def tell(event: str, **values: object) -> None:
        replies.write(json.dumps({"event": event, **values}) + "\n")
        replies.flush()

    server = _Server(contender, workloads, threads or cpu.available_threads())
    try:
        for line in commands:
            command = json.loads(line)
            if command["do"] == "stop":
                tell("stopped", **server.stop())
                return 0
            tell(command["do"], **server.answer(command))
    except EdgekitError as error:
        tell("error", kind=error.kind, message=error.message, hint=error.hint)
        return error.exit_code
    except BrokenPipeError:
        # The parent is gone, and so is everybody who could be told.
        return 0
    return 0


@dataclass(frozen=True)
class _Prepared:
    """A workload ready to run: ``call`` goes round its variants, ``first`` runs the first one.

    ``requests`` are those among the calls that tell when tokens came; ``rotation`` says which of
    several comes next.
    """

    call: Call
    first: Call
    variants: int
    requests: tuple[Request, ...] = ()
    rotation: turns.Rotation[Mapping[str, Array]] | None = None


class _Server:
    """What a child remembers between two commands."""

    def __init__(self, contender: Contender, workloads: Path, threads: int) -> None:
        self._contender = contender
        self._path = workloads
        self._threads = threads
        self._workloads: tuple[Workload, ...] = ()
        self._opened: Measurable | None = None
        self._prepared: dict[int, _Prepared] = {}
        self._typical: dict[int, float] = {}
        # Samples of what each workload's first variant was answered with at first.
        self._answers: dict[int, dict[str, Array]] = {}
        self._streams: dict[int, int] = {}
        self._baseline: int | None = None
        self._pss_baseline: int | None = None
        self._peak = 0
        self._pss = 0
        # Read before the first stages, which come last.
        self._peaks: dict[str, object] | None = None

    def answer(self, command: Mapping[str, object]) -> dict[str, object]:
        """What one command came to, told when nothing of it computes any more."""
        reply = self._do(command)
        return {**reply, "at_rest": timing.come_to_rest()}

    def _do(self, command: Mapping[str, object]) -> dict[str, object]:
        do = command["do"]
        if do == "largest":
            return self._largest()
        if do not in ("open", "warm", "measure", "stages"):
            raise ValueError(f"unknown command {do!r}")
        index = int(str(command["workload"]))
        if do == "open":
            outputs = command.get("outputs")
            path = None if outputs is None else Path(str(outputs))
            return self._open(index, float(str(command["spawned"])), path)
        seconds = float(str(command["seconds"]))
        if do == "warm":
            return self._warm(index, seconds)
        if do == "stages":
            return self._stages(index, seconds)
        told = command.get("scenario")
        scenario = Scenario.from_json(told) if isinstance(told, dict) else SINGLE_STREAM
        least, turn = int(str(command["least"])), command.get("turn")
        prepared = self._prepared.get(index)
        if prepared is not None and prepared.rotation is not None and isinstance(turn, list):
            # Long answers are few: the same ones for every contender, and others in every turn.
            if scenario.name == "single-stream":
                seconds = 0.0
            prepared.rotation.begin((turn[0] * _TURNS + turn[1]) * least - self._discarded(index))
        return self._measure(index, scenario, seconds, least)

    def _open(self, index: int, spawned: float, path: Path | None) -> dict[str, object]:
        self._contender.imports()
        # The monotonic clock is the machine's, so the parent's reading at the start compares.
        import_seconds = time.monotonic() - spawned
        self._workloads = load_workloads(self._path)
        self._baseline = timing.resident_bytes()
        self._pss_baseline = timing.proportional_bytes()
        peak_reset = timing.forget_peak()
        ready = time.perf_counter()
        self._opened = self._contender.open()
        loaded = time.perf_counter()
        alone = self._workloads[index].new_tokens is not None and self._forget_loading()
        run = self._opened.start(self._workloads[index])
        begun = time.perf_counter()
        outputs = run()
        first = (time.perf_counter() - begun) * 1e3
        context = _above(timing.peak_bytes(), self._baseline) if alone else None
        wrong = self._remember(index, outputs)
        if path is not None:
            wrong = self._write_outputs(index, outputs, path) or wrong
        # Every turn begins with a collection, which need not walk what the libraries hold for good.
        gc.collect()
        gc.freeze()
        return {
            "import_ms": import_seconds * 1e3,
            "load_ms": (loaded - ready) * 1e3,
            "first_ms": first,
            "peak_reset": peak_reset,
            "context_rss_bytes": context,
            "wrong": wrong,
            "facts": dict(self._opened.facts()),
        }

    def _forget_loading(self) -> bool:
        """Begin the peak anew: what loading took for a moment is no part of a context."""
        self._peak = timing.peak_bytes() or 0
        return timing.forget_peak()

    def _write_outputs(self, index: int, outputs: Mapping[str, Array], path: Path) -> str | None:
        """Run the other workloads once and write all outputs; the name of one that is not finite.

        The bytes of the file are made in memory, which is no part of the contender's peak.
        """
        opened = self._measurable()
        found: list[Mapping[str, Array]] = []
        wrong: str | None = None
        for other, workload in enumerate(self._workloads):
            if workload.new_tokens is not None and isinstance(opened, Compared):
                # Timed answers hold less, and are kept when they come.
                answer = opened.answer(workload)
                wrong = not_finite(answer) or wrong
            else:
                answer = outputs if other == index else opened.start(workload)()
                wrong = self._remember(other, answer) or wrong
            found.append(answer)
        self._peak = max(self._peak, timing.peak_bytes() or 0)
        save_outputs(found, path)
        timing.forget_peak()
        return wrong

    def _remember(self, index: int, outputs: Mapping[str, Array]) -> str | None:
        """Keep a sample of a workload's first answer; the output that is not finite."""
        if index not in self._answers:
            self._answers[index] = sampled(outputs)
        return not_finite(outputs)

    def _warm(self, index: int, seconds: float) -> dict[str, object]:
        opened = self._measurable()
        prepared = self._prepared[index] = _prepare(opened, self._workloads[index])
        wrong = self._remember(index, prepared.first())
        fewest = _FEWEST_REQUESTS if prepared.requests else timing.FEWEST_RUNS
        result = timing.warm_up(prepared.call, seconds=seconds, fewest=fewest)
        self._typical[index] = result.typical_ms
        # What compiling left behind is not walked by the collections of every turn either.
        gc.collect()
        gc.freeze()
        return {
            "runs": result.runs,
            "seconds": result.seconds,
            "flat": result.flat,
            "typical_ms": result.typical_ms,
            "wrong": wrong,
            "facts": dict(opened.facts()),
        }

    def _measure(
        self, index: int, scenario: Scenario, seconds: float, least: int
    ) -> dict[str, object]:
        if index not in self._prepared:
            raise ValueError("warm comes before measure")
        prepared = self._prepared[index]
        if scenario.name == "offline" and scenario.streams is None:
            scenario = Scenario("offline", streams=self._best_streams(index, prepared.call))
        last_requests(prepared.requests, 0)
        turn = turns.take(
            scenario, prepared.call, seconds=seconds, least=least, discard=self._discarded(index)
        )
        tokens = last_requests(prepared.requests, turn.inferences) if prepared.requests else {}
        self._pss = max(self._pss, timing.proportional_bytes() or 0)
        # The last of many variants is another one every time: the first is run again instead.
        last = turn.last if prepared.variants == 1 and turn.last is not None else prepared.first()
        moved = drift(self._answers[index], last)
        return {
            "nanoseconds": list(turn.nanoseconds),
            "wall_seconds": turn.wall_seconds,
            "cpu_seconds": turn.cpu_seconds,
            "busy_seconds": turn.busy_seconds,
            "inferences": turn.inferences,
            "given_up": turn.given_up,
            "drift": None if moved is None else moved.to_json(),
            "wrong": not_finite(last),
            **tokens,
            **({"streams": scenario.streams} if scenario.name == "offline" else {}),
        }

    def _discarded(self, index: int) -> int:
        """How many inferences a turn begins with that do not count."""
        long = self._prepared[index].requests and self._typical[index] >= _LONG_MS
        return 0 if long else _DISCARDED

    def _best_streams(self, index: int, call: Call) -> int:
        """How many callers at a time the offline scenario has, found out once per workload."""
        if index not in self._streams:
            seconds = max(_STREAM_SECONDS, 5 * self._typical[index] / 1e3)
            self._streams[index] = (
                turns.better_streams(call, seconds=seconds, most=self._threads)
                if self._threads > 1
                else 1
            )
        return self._streams[index]

    def _stages(self, index: int, seconds: float) -> dict[str, object]:
        """The stages; what they decode besides is no part of the peak, which is read before."""
        opened = self._measurable()
        if not isinstance(opened, Staged):
            return {}
        self._largest()
        self._peaks = self._peaks or self._read_peaks()
        return dict(opened.stages(self._workloads[index], seconds=seconds))

    def _largest(self) -> dict[str, object]:
        """Run the largest arrays of all twice, so that the peak of memory covers them."""
        opened = self._measurable()
        if self._peaks is not None:
            return {}
        largest = max(
            (single for workload in self._workloads for single in workload.singles()),
            key=lambda single: sum(array.size for array in single.feeds.values()),
        )
        run = opened.start(largest)
        for _ in range(2):
            run()
        self._pss = max(self._pss, timing.proportional_bytes() or 0)
        return {}

    def _measurable(self) -> Measurable:
        if self._opened is None:
            raise ValueError("open comes before anything else")
        return self._opened

    def stop(self) -> dict[str, object]:
        """The peaks of memory above what the imports alone had taken, in bytes.

        The system keeps the peak of RSS; PSS is the largest of those read after turns.
        """
        return self._peaks or self._read_peaks()

    def _read_peaks(self) -> dict[str, object]:
        peak = timing.peak_bytes()
        peak = None if peak is None else max(peak, self._peak)
        return {
            "peak_rss_bytes": _above(peak, self._baseline),
            "peak_pss_bytes": _above(self._pss or None, self._pss_baseline),
        }


def _prepare(opened: Measurable, workload: Workload) -> _Prepared:
    """The calls of a workload; its settings are found on the variant of middle size."""
    singles = workload.singles()
    by_size = sorted(
        range(len(singles)),
        key=lambda at: sum(array.size for array in singles[at].feeds.values()),
    )
    middle = by_size[len(by_size) // 2]
    # First, because the inputs of the others are laid out as the settings found here want them.
    found = opened.prepare(singles[middle])
    ordered = [found if at == middle else opened.start(single) for at, single in enumerate(singles)]
    requests = tuple(call for call in ordered if isinstance(call, Request))
    if len(ordered) == 1:
        return _Prepared(ordered[0], ordered[0], 1, requests)
    rotation = turns.Rotation(ordered)
    return _Prepared(rotation, ordered[0], len(ordered), requests, rotation if requests else None)


def _above(peak: int | None, baseline: int | None) -> int | None:
    return None if peak is None or baseline is None else max(0, peak - baseline)


def not_finite(outputs: Mapping[str, Array]) -> str | None:
    """The output that holds NaN or infinities, None when all are finite."""
    for name, array in outputs.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue
        flat = array.ravel()
        # In blocks: a mask as large as the output would show in the peak of memory.
        for start in range(0, flat.size, _BLOCK):
            if not np.isfinite(flat[start : start + _BLOCK]).all():
                return name
    return None
