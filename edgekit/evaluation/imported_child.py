"""The measuring child of an imported reference: ``python -m edgekit.evaluation.imported_child``.

The graph runs as a bare graph in a bench does: no PyTorch, and nothing between it and the clock
that a bundle would not have too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.runtime.conversation import python_command
from edgekit.runtime.golden import coarsest
from edgekit.runtime.raw import OpenGraph, RawContender
from edgekit.runtime.session import Array
from edgekit.runtime.worker import Measurable, private_stdout, serve
from edgekit.runtime.workloads import Workload

# Each count of threads is tried so often, and for no longer than so many seconds.
_TRIALS = 15
_TRIAL_SECONDS = 2.0


@dataclass(frozen=True)
class ImportedContender:
    """A graph as a contender with the better of 1 and `threads` threads.

    ``known`` is what its file tells of it: the hash of the model, its precision, its bytes.
    """

    path: Path
    threads: int
    known: Mapping[str, object] = field(default_factory=dict)

    def imports(self) -> None:
        """See `edgekit.runtime.worker.Contender`."""
        RawContender(self.path, self.threads).imports()

    def open(self) -> Measurable:
        """See `edgekit.runtime.worker.Contender`."""
        return OpenImported(self)


class OpenImported:
    """The opened graph under measurement; calls run in the session that was opened last."""

    def __init__(self, contender: ImportedContender) -> None:
        self._contender = contender
        self._opened = self._open(contender.threads)

    def facts(self) -> Mapping[str, object]:
        """See `edgekit.runtime.worker.Measurable`."""
        known, session = self._contender.known, self._opened.session
        facts = session.facts()
        computed = str(facts.get("precision", "fp32"))
        return {
            "engine": session.engine,
            "device": session.device,
            **facts,
            "mode": "imported, as ONNX Runtime opens it",
            **known,
            "effective_precision": coarsest(str(known.get("precision", "fp32")), computed),
            "threads": self._threads,
        }

    def start(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`."""
        feeds = dict(workload.feeds)

        def call() -> Mapping[str, Array]:
            return self._opened.session.run(self._opened.check(feeds))

        return call

    def prepare(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`: tries out 1 and all threads.

        One after the other: two sessions at a time would stand in the peak of memory.
        """
        call = self.start(workload)
        times: dict[int, float] = {}
        # The session that is there first.
        for count in dict.fromkeys((self._threads, self._contender.threads, 1)):
            self._use(count)
            if self._contender.threads > 1:
                times[count] = _median(call)
        self._use(min(times, key=lambda count: times[count], default=self._threads))
        return call

    def _use(self, threads: int) -> None:
        if threads != self._threads:
            self._opened.session.close()
            self._opened = self._open(threads)

    def _open(self, threads: int) -> OpenGraph:
        opened = RawContender(self._contender.path, threads).open()
        assert isinstance(opened, OpenGraph)
        self._threads = threads
        return opened


def _median(call: Callable[[], object]) -> float:
    times: list[float] = []
    begun = time.perf_counter()
    # The first call after opening allocates.
    call()
    while len(times) < _TRIALS and time.perf_counter() - begun < _TRIAL_SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) if times else time.perf_counter() - begun


def imported_command(
    path: Path, inputs: Path, threads: int, known: Mapping[str, object]
) -> tuple[str, ...]:
    """The command of one measuring process."""
    words = [str(path), "--worker", str(inputs), "--threads", str(threads)]
    words += ["--known", json.dumps(dict(known))]
    return python_command("edgekit.evaluation.imported_child", *words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.evaluation.imported_child")
    parser.add_argument("path", type=Path, metavar="FILE")
    parser.add_argument("--worker", type=Path, required=True, metavar="FILE")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--known", default="{}", metavar="JSON")
    given = parser.parse_args(arguments)
    known = json.loads(given.known)
    if not isinstance(known, dict):
        raise ConfigError(f"--known should be a JSON object, got {given.known!r}.")
    replies = private_stdout()
    contender = ImportedContender(given.path, given.threads, known)
    return serve(contender, given.worker, sys.stdin, replies, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
