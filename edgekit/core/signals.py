"""Stops as exceptions, each of them once: what a program has begun is cleaned up on its way out.

Python runs signal handlers between any two instructions of the main thread, so also inside a
`__del__` or a weak reference's callback. An exception there cannot leave it: the interpreter
prints "Exception ignored" and goes on, and the person's Ctrl-C has done nothing.

One stop may also be sent twice: coreutils' ``timeout`` signals the process and then its group. The
second one would end the cleaning up that the first has begun.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# Long enough for the code that swallowed a stop to have returned.
_AGAIN_SECONDS = 0.01
# What comes within so long after a stop is the same one; later it is somebody's impatience.
_ONCE_SECONDS = 2.0


class Terminated(BaseException):
    """SIGTERM, as an exception: `with` blocks clean up on the way out."""


_SIGNALS: dict[type[BaseException], signal.Signals] = {
    KeyboardInterrupt: signal.SIGINT,
    Terminated: signal.SIGTERM,
}


class _Once:
    """A handler that raises at a stop, and not at its repetition."""

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind
        self._last: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._last is not None and now - self._last < _ONCE_SECONDS:
            return
        self._last = now
        raise self._kind

    def forget(self) -> None:
        """Raise at the next one whenever it comes: the last was lost."""
        self._last = None


@contextmanager
def stops_raise() -> Iterator[None]:
    """Raise Terminated in the main thread, from which this is called, when SIGTERM comes.

    A Terminated or KeyboardInterrupt that was raised where exceptions are ignored is raised again
    a moment later; one that comes again at once is not. Where Ctrl-C is ignored, or somebody
    else's, it stays so.
    """
    handlers: dict[type[BaseException], _Once] = {Terminated: _Once(Terminated)}
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, handlers[Terminated])}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        handlers[KeyboardInterrupt] = _Once(KeyboardInterrupt)
        before[signal.SIGINT] = signal.signal(signal.SIGINT, handlers[KeyboardInterrupt])
    told = sys.unraisablehook
    swallowed: list[tuple[type[BaseException], threading.Timer]] = []

    def hook(unraisable: UnraisableHookArgs) -> None:
        number = _SIGNALS.get(unraisable.exc_type)
        if number is None:
            told(unraisable)
            return
        if unraisable.exc_type in handlers:
            handlers[unraisable.exc_type].forget()
        timer = threading.Timer(_AGAIN_SECONDS, _send, [number])
        timer.daemon = True
        swallowed.append((unraisable.exc_type, timer))
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
        for kind, timer in swallowed:
            # Later it would come where nobody expects it any more.
            if timer.is_alive():
                raise kind
    finally:
        for _, timer in swallowed:
            timer.cancel()
        sys.unraisablehook = told
        for number, handler in before.items():
            # None stands for a handler that was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _send(number: signal.Signals) -> None:
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:
        # To the main thread itself, so that a system call in which it waits ends too.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
