"""A measuring child of a bundle with a planted difference, of known size.

``python -m benchmarks.measurement.slowed BUNDLE --worker FILE --threads N`` and one of
``--factor F`` (every inference takes F times its own median: a busy loop of that length follows it)
or ``--stall-ms S --every N`` (every N-th inference sleeps S milliseconds more).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.runtime.contenders import BundleContender
from edgekit.runtime.session import Array
from edgekit.runtime.worker import Measurable, private_stdout, serve
from edgekit.runtime.workloads import Workload

# Enough for a median that is right to a percent, after as many that warm up.
_TRIALS = 40

Call = Callable[[], Mapping[str, Array]]


@dataclass(frozen=True)
class Slowed(BundleContender):
    """The contender with its difference."""

    factor: float = 1.0
    stall_ms: float = 0.0
    every: int = 0

    def open(self) -> Measurable:
        """See `edgekit.runtime.worker.Contender`."""
        return OpenSlowed(super().open(), self.factor, self.stall_ms, self.every)


@dataclass(frozen=True)
class OpenSlowed:
    """The opened bundle with its difference."""

    inner: Measurable
    factor: float
    stall_ms: float
    every: int

    def facts(self) -> Mapping[str, object]:
        """See `edgekit.runtime.worker.Measurable`."""
        return self.inner.facts()

    def start(self, workload: Workload) -> Call:
        """See `edgekit.runtime.worker.Measurable`."""
        return self.inner.start(workload)

    def prepare(self, workload: Workload) -> Call:
        """See `edgekit.runtime.worker.Measurable`."""
        run = self.inner.prepare(workload)
        if self.every:
            return stalled(run, self.stall_ms, self.every)
        times = []
        for _ in range(2 * _TRIALS):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return followed(run, (self.factor - 1) * float(np.median(times[_TRIALS:])))


def followed(run: Call, seconds: float) -> Call:
    """The call, then a busy loop of so many seconds."""

    def call() -> Mapping[str, Array]:
        outputs = run()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            continue
        return outputs

    return call


def stalled(run: Call, milliseconds: float, every: int) -> Call:
    """The call, every so many of which sleeps before it answers."""
    count = 0

    def call() -> Mapping[str, Array]:
        nonlocal count
        outputs = run()
        count += 1
        if count % every == 0:
            time.sleep(milliseconds / 1e3)
        return outputs

    return call


def main() -> int:
    """Run as a program; the exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurement.slowed")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--stall-ms", type=float, default=0.0)
    parser.add_argument("--every", type=int, default=0)
    given = parser.parse_args()
    replies = private_stdout()
    contender = Slowed(
        given.bundle, given.threads, factor=given.factor, stall_ms=given.stall_ms, every=given.every
    )
    return serve(contender, given.worker, sys.stdin, replies)


if __name__ == "__main__":
    sys.exit(main())
