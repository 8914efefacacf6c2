"""The measuring child's side of a bench: it does one thing per line it is told, and reports.

One JSON object per line, both ways. The parent says ``open``, ``warm``, ``measure``, ``stop``; the
child answers each with one line and sleeps in a read meanwhile. End of input means stop: a child
never outlives its parent by more than the turn it is in.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from edgekit.core.errors import EdgekitError
from edgekit.runtime import timing
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import Workload, load_workloads


class Measurable(Protocol):
    """An opened contender."""

    def facts(self) -> Mapping[str, object]:
        """What it really runs on: ``engine``, provider, precision, threads, version…"""
        ...

    def start(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """One inference on the workload's arrays, as a call without arguments."""
        ...

    def prepare(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """The same with the settings that suit the workload best, which may be tried out here."""
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


def serve(contender: Contender, workloads: Path, commands: IO[str], replies: IO[str]) -> int:
    """Answer commands until ``stop`` or their end; the exit code of the process.

    `workloads` is a file of `save_workloads`.

    An expected failure is told in a line of its own and ends the child with the error's exit code;
    an unexpected one is a traceback on stderr and exit code 1.
    """

    def tell(event: str, **values: object) -> None:
        replies.write(json.dumps({"event": event, **values}) + "\n")
        replies.flush()

    server = _Server(contender, workloads)
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


class _Server:
    """What a child remembers between two commands."""

    def __init__(self, contender: Contender, workloads: Path) -> None:
        self._contender = contender
        self._path = workloads
        self._workloads: tuple[Workload, ...] = ()
        self._opened: Measurable | None = None
        self._runs: dict[int, Callable[[], Mapping[str, Array]]] = {}
        self._baseline: int | None = None

    def answer(self, command: Mapping[str, object]) -> dict[str, object]:
        """What one command came to."""
        index = int(str(command["workload"]))
        if command["do"] == "open":
            return self._open(index, float(str(command["spawned"])))
        if command["do"] == "warm":
            return self._warm(index, float(str(command["seconds"])))
        if command["do"] == "measure":
            return self._measure(index, float(str(command["seconds"])), int(str(command["least"])))
        raise ValueError(f"unknown command {command['do']!r}")

    def _open(self, index: int, spawned: float) -> dict[str, object]:
        self._contender.imports()
        # The monotonic clock is the machine's, so the parent's reading at the start compares.
        import_seconds = time.monotonic() - spawned
        self._workloads = load_workloads(self._path)
        self._baseline = timing.resident_bytes()
        peak_reset = timing.forget_peak()
        ready = time.perf_counter()
        self._opened = self._contender.open()
        loaded = time.perf_counter()
        outputs, first = self._first(index)
        return {
            "import_ms": import_seconds * 1e3,
            "load_ms": (loaded - ready) * 1e3,
            "first_ms": first,
            "peak_reset": peak_reset,
            "wrong": not_finite(outputs),
            "facts": dict(self._opened.facts()),
        }

    def _first(self, index: int) -> tuple[Mapping[str, Array], float]:
        """The outputs of the process's very first inference, and its milliseconds."""
        if self._opened is None:
            raise ValueError("open comes before anything else")
        run = self._opened.start(self._workloads[index])
        begun = time.perf_counter()
        outputs = run()
        return outputs, (time.perf_counter() - begun) * 1e3

    def _warm(self, index: int, seconds: float) -> dict[str, object]:
        if self._opened is None:
            raise ValueError("open comes before anything else")
        run = self._runs[index] = self._opened.prepare(self._workloads[index])
        outputs = run()
        result = timing.warm_up(run, seconds=seconds)
        return {
            "runs": result.runs,
            "seconds": result.seconds,
            "flat": result.flat,
            "typical_ms": result.typical_ms,
            "wrong": not_finite(outputs),
            "facts": dict(self._opened.facts()),
        }

    def _measure(self, index: int, seconds: float, least: int) -> dict[str, object]:
        if index not in self._runs:
            raise ValueError("warm comes before measure")
        turn = timing.take_turn(self._runs[index], seconds=seconds, least=least)
        return {
            "nanoseconds": list(turn.nanoseconds),
            "wall_seconds": turn.wall_seconds,
            "cpu_seconds": turn.cpu_seconds,
        }

    def stop(self) -> dict[str, object]:
        """The peak of memory above what the imports alone had taken, in bytes."""
        peak = timing.peak_bytes()
        if peak is None or self._baseline is None:
            return {"peak_rss_bytes": None}
        return {"peak_rss_bytes": max(0, peak - self._baseline)}


def not_finite(outputs: Mapping[str, Array]) -> str | None:
    """The output that holds NaN or infinities, None when all are finite."""
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            return name
    return None
