"""Where the time of one prediction goes: from text or picture to arrays, the engine, the answer.

What is timed is `Model.__call__` itself, with a clock around its engine: the path that apps take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from edgekit.core.manifest import TensorSpec
from edgekit.runtime.joined import parts_of
from edgekit.runtime.session import Array, Fact, Session

if TYPE_CHECKING:
    from PIL.Image import Image

_LEAST = 5
_WARM = 3
# Of predictions that take longer than a second fewer are enough: they are outside of the budget.
_LONG = 1.0
_LEAST_LONG = 2


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
        # A decoder keeps its cache in the engine, which is not asked through `run` for it.
        self.decoding = getattr(session, "decoding", None)
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


@runtime_checkable
class Decoding(Protocol):
    """What opens pictures: a `PictureProcessor`."""

    def open(self, item: object) -> Image:
        """The picture, decoded."""
        ...


@contextmanager
def timed_decoding(opener: Decoding) -> Iterator[list[int]]:
    """The nanoseconds of each picture that is decoded meanwhile."""
    original = opener.open
    found: list[int] = []

    def timed(item: object) -> Image:
        begun = time.perf_counter_ns()
        image = original(item)
        found.append(time.perf_counter_ns() - begun)
        return image

    # On the object, over its class's own: other processors are not slowed.
    setattr(opener, "open", timed)  # noqa: B010
    try:
        yield found
    finally:
        delattr(opener, "open")


def measure_stages(
    watch: Stopwatch,
    predictions: Sequence[Callable[[], object]],
    *,
    seconds: float,
    opener: Decoding | None = None,
) -> dict[str, float]:
    """Median milliseconds of the stages, over at least 5 predictions (2 long ones) in turn.

    With an `opener` of pictures, what they take to be decoded stands apart from the rest before the
    engine.
    """
    if opener is not None:
        return _with_decoding(watch, predictions, seconds, opener)
    return _stages(_splits(watch, predictions, seconds))


def _with_decoding(
    watch: Stopwatch,
    predictions: Sequence[Callable[[], object]],
    seconds: float,
    opener: Decoding,
) -> dict[str, float]:
    decoded: list[int] = []
    with timed_decoding(opener) as spans:

        def noted(predict: Callable[[], object]) -> Callable[[], object]:
            def call() -> object:
                spans.clear()
                answer = predict()
                decoded.append(sum(spans))
                return answer

            return call

        found = _splits(watch, [noted(predict) for predict in predictions], seconds)
    # The first ones were not timed.
    times = np.array(decoded[-len(found) :], dtype=np.float64)
    rest = [(before - took, *after) for (before, *after), took in zip(found, times, strict=True)]
    return {**_stages(rest), "decode_ms": float(np.median(times)) / 1e6}


def _splits(
    watch: Stopwatch, predictions: Sequence[Callable[[], object]], seconds: float
) -> list[tuple[int, int, int]]:
    least = _LEAST
    for index in range(_WARM):
        begun = time.perf_counter()
        predictions[index % len(predictions)]()
        if time.perf_counter() - begun > _LONG:
            least = _LEAST_LONG
            break
    found: list[tuple[int, int, int]] = []
    deadline = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < deadline:
        found.append(watch.split(predictions[len(found) % len(predictions)]))
    return found


def _stages(found: Sequence[tuple[float, ...]]) -> dict[str, float]:
    before, inside, after = np.median(np.array(found, dtype=np.float64), axis=0) / 1e6
    return {
        "preprocess_ms": float(before),
        "engine_ms": float(inside),
        "postprocess_ms": float(after),
    }
