"""What a person at a terminal sees while a command works: its sentences, and under them a bar.

Without a terminal, without rich, with ``-q`` or ``-v`` it is sentences alone. Standard output is
never touched.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgekit.cli.console import Console, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# A terminal that draws takes a processor for some milliseconds, and contenders are being timed.
_SECONDS = 0.5


class Bars:
    """Draws one bar at a time; see `edgekit.evaluation.counting.Bar`."""

    def __init__(self, bars: Progress, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bars = bars
        self._clock = clock
        self._task: TaskID | None = None
        self._drawn = 0.0

    def __call__(self, text: str, /) -> None:
        """Write a sentence above the bar."""
        self._bars.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def advance(self, text: str, done: float, total: float) -> None:
        """See `edgekit.evaluation.counting.Bar.advance`."""
        if done >= total:
            self._end()
            return
        now = self._clock()
        if self._task is None:
            self._task = self._bars.add_task("", total=total)
        elif now - self._drawn < _SECONDS:
            return
        self._drawn = now
        self._bars.update(
            self._task, description=printable(text), completed=done, total=total, refresh=True
        )

    def _end(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._bars.refresh()
        self._task = None


@contextmanager
def listening(console: Console) -> Iterator[Callable[[str], None]]:
    """The listener for a command's work; whatever it has drawn is gone at the end."""
    bars = _terminal_bars(console)
    if bars is None:
        yield console.status
        return
    with bars:
        yield Bars(bars)


def _terminal_bars(console: Console) -> Progress | None:
    """An empty display on stderr, None where there should be none."""
    quiet_or_logging = console.verbosity != 0
    if quiet_or_logging or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        progress = importlib.import_module("rich.progress")
        terminal = importlib.import_module("rich.console").Console(stderr=True)
    except ImportError:
        return None
    # Drawn when something is told, never by a thread of its own, which would wake up while
    # contenders are being timed.
    made: Progress = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
        console=terminal,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return made
