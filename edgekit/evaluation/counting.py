"""How far a long loop is: told to a bar at every step, to who only reads lines now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, Self, runtime_checkable

# By then a loop's pace is known; what lasts for less than so long after it is not foretold.
_KNOWN_SECONDS = 5.0
_WORTH_SECONDS = 30.0


@runtime_checkable
class Bar(Protocol):
    """A listener to progress that can draw how far a loop is; others get sentences alone."""

    def __call__(self, text: str, /) -> None:
        """Tell what is being done now."""
        ...

    def advance(self, text: str, done: float, total: float) -> None:
        """Tell that `done` of `total` are behind; the bar ends when all are."""
        ...


class Counted:
    """A loop of `total` steps that tells its listener how far it is, and how long it will take.

    One without a bar is told whenever another of `lines` equal parts is reached, the start
    included only with `first`, and once as soon as the pace is known, where much is to come.
    `start` are steps that an earlier run has done.
    """

    def __init__(
        self,
        progress: Callable[[str], None],
        total: float,
        *,
        lines: int = 10,
        first: bool = False,
        start: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._total = total
        self._lines = lines
        self._told = -1 if first else int(start * lines / total) if start else 0
        self._start = start
        self._clock = clock
        self._paced: tuple[float, float] | None = None
        self._foretold = False

    def tell(self, text: str, done: float) -> None:
        """The sentence for now, and how many steps are behind."""
        ahead = self.ahead(done)
        if isinstance(self._progress, Bar):
            self._progress.advance(f"{text}{ahead}", done, self._total)
            return
        part = int(done * self._lines / self._total)
        if part != self._told or (ahead and not self._foretold):
            self._told = part
            self._foretold = self._foretold or bool(ahead)
            self._progress(f"{text}{ahead}")

    def ahead(self, done: float) -> str:
        """``; about 6 min to go``, by the pace so far; nothing where little is, or unknown.

        The first step that is told waits for what is made ready: the pace is that of the others.
        """
        if done <= self._start:
            return ""
        now = self._clock()
        if self._paced is None:
            self._paced = now, done
        elapsed, steps = now - self._paced[0], done - self._paced[1]
        if elapsed < _KNOWN_SECONDS or steps <= 0:
            return ""
        left = elapsed * (self._total - done) / steps
        return f"; about {_duration(left)} to go" if left >= _WORTH_SECONDS else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """No more steps will come, whether or not all have."""
        if isinstance(self._progress, Bar):
            self._progress.advance("", self._total, self._total)


def _duration(seconds: float) -> str:
    """A time as one plans with it: ``40 s``, ``6 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{round(seconds / 10) * 10} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
