"""Where the time of one prediction goes: from the text to the arrays, the engine, the answer.

What is timed is `Model.__call__` itself, with a clock around its engine: the path that apps take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgekit.core.manifest import TensorSpec
from edgekit.runtime.session import Array, Fact, Session
from edgekit.runtime.towers import parts_of

_LEAST = 5
_WARM = 3


class Stopwatch:
    """A session that notes when it computes, while it is told to; it costs nothing otherwise."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.engine: str = session.engine
        self.device: str = session.device
        self.inputs: tuple[TensorSpec, ...] = session.inputs
        self.outputs: tuple[TensorSpec, ...] = session.outputs
        self.run: Callable[[Mapping[str, Array]], dict[str, Array]] = session.run
        #: The sessions of several components, which are timed together only.
        self.parts = parts_of(session)
        self._spans: list[tuple[int, int]] = []

    def facts(self) -> dict[str, Fact]:
        """See `edgekit.runtime.session.Session.facts`."""
        return self._session.facts()

    def close(self) -> None:
        """See `edgekit.runtime.session.Session.close`."""
        self._session.close()

    def split(self, predict: Callable[[], object]) -> tuple[int, int, int]:
        """Nanoseconds before the engine's first run, in its runs, and the rest of one prediction.

        What lies between two runs of one prediction counts as the rest.
        """
        self._spans.clear()
        self.run = self._timed
        try:
            begun = time.perf_counter_ns()
            predict()
            ended = time.perf_counter_ns()
        finally:
            self.run = self._session.run
        if not self._spans:
            return ended - begun, 0, 0
        before = self._spans[0][0] - begun
        inside = sum(end - start for start, end in self._spans)
        return before, inside, ended - begun - before - inside

    def _timed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        started = time.perf_counter_ns()
        outputs = self._session.run(feeds)
        self._spans.append((started, time.perf_counter_ns()))
        return outputs


def measure_stages(
    watch: Stopwatch, predictions: Sequence[Callable[[], object]], *, seconds: float
) -> dict[str, float]:
    """Median milliseconds of the stages, over at least 5 predictions that take turns."""
    for index in range(_WARM):
        predictions[index % len(predictions)]()
    found: list[tuple[int, int, int]] = []
    deadline = time.perf_counter() + seconds
    while len(found) < _LEAST or time.perf_counter() < deadline:
        found.append(watch.split(predictions[len(found) % len(predictions)]))
    before, inside, after = np.median(np.array(found, dtype=np.float64), axis=0) / 1e6
    return {
        "preprocess_ms": float(before),
        "engine_ms": float(inside),
        "postprocess_ms": float(after),
    }
