"""How far a long loop is: told to a bar at every step, to who only reads lines now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


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
    """A loop of `total` steps that tells its listener how far it is.

    One without a bar is told whenever another of `lines` equal parts is reached, the start
    included only with `first`.
    """

    def __init__(
        self,
        progress: Callable[[str], None],
        total: float,
        *,
        lines: int = 10,
        first: bool = False,
    ) -> None:
        self._progress = progress
        self._total = total
        self._lines = lines
        self._told = -1 if first else 0

    def tell(self, text: str, done: float) -> None:
        """The sentence for now, and how many steps are behind."""
        if isinstance(self._progress, Bar):
            self._progress.advance(text, done, self._total)
            return
        part = int(done * self._lines / self._total)
        if part != self._told:
            self._told = part
            self._progress(text)

    def end(self) -> None:
        """No more steps will come, whether or not all have."""
        if isinstance(self._progress, Bar):
            self._progress.advance("", self._total, self._total)
