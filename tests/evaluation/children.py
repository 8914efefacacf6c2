"""Measuring children of the tests: contenders of known speed, and some that misbehave."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.runtime.worker import private_stdout, serve
from edgekit.runtime.workloads import Workload

Outputs = Mapping[str, np.ndarray]


class Busy:
    """A contender whose inference computes for a given time; `kind` says how it goes wrong."""

    def __init__(self, kind: str, milliseconds: float) -> None:
        self.kind = kind
        self.seconds = milliseconds / 1e3

    def imports(self) -> None:
        """Nothing to import, or a failure to."""
        if self.kind == "no-import":
            raise ImportError("the engine is broken")

    def open(self) -> Busy:
        """Nothing to load, or a failure to."""
        if self.kind == "refuses":
            from edgekit.core.errors import EngineUnavailable

            raise EngineUnavailable("This engine is not here.", hint="Install it.")
        if self.kind == "prints":
            print("a library says hello")
        return self

    def facts(self) -> Mapping[str, object]:
        """What the parent records."""
        return {"engine": "busy", "version": "1", "threads": 1}

    def start(self, workload: Workload) -> Callable[[], Outputs]:
        """One inference."""
        value = {"nan": np.nan, "wrong": 2.0}.get(self.kind, 1.0)
        answer = {"y": np.full(3, value, dtype=np.float32)}
        later = {"y": np.full(3, 2.0, dtype=np.float32)}
        calls = 0

        def call() -> Outputs:
            nonlocal calls
            calls += 1
            if self.kind == "crashes":
                os._exit(3)
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "hangs":
                time.sleep(600)
            if self.kind == "raises":
                raise RuntimeError("the engine lost its device")
            end = time.perf_counter() + self.seconds
            while time.perf_counter() < end:
                pass
            return later if self.kind == "drifts" and calls > 20 else answer

        return call

    def prepare(self, workload: Workload) -> Callable[[], Outputs]:
        """As it is."""
        return self.start(workload)


def main() -> int:
    """``python children.py KIND MILLISECONDS WORKLOADS``."""
    kind, milliseconds, workloads = sys.argv[1:4]
    if kind == "babbles":
        for _ in sys.stdin:
            print("not json", flush=True)
        return 0
    replies = private_stdout()
    return serve(Busy(kind, float(milliseconds)), Path(workloads), sys.stdin, replies)


if __name__ == "__main__":
    sys.exit(main())
