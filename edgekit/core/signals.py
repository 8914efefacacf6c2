"""SIGTERM as an exception, and no lost stop: what a program has begun is cleaned up on its way out.

Python runs signal handlers between any two instructions of the main thread, so also inside a
`__del__` or a weak reference's callback. An exception there cannot leave it: the interpreter
prints "Exception ignored" and goes on, and the person's Ctrl-C has done nothing.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# Long enough for the code that swallowed a stop to have returned.
_AGAIN_SECONDS = 0.01


class Terminated(BaseException):
    """SIGTERM, as an exception: `with` blocks clean up on the way out."""


_SIGNALS: dict[type[BaseException], signal.Signals] = {
    KeyboardInterrupt: signal.SIGINT,
    Terminated: signal.SIGTERM,
}


@contextmanager
def stops_raise() -> Iterator[None]:
    """Raise Terminated in the main thread, from which this is called, when SIGTERM comes.

    A Terminated or KeyboardInterrupt that was raised where exceptions are ignored is raised again
    a moment later.
    """
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    told = sys.unraisablehook
    swallowed: list[tuple[type[BaseException], threading.Timer]] = []

    def hook(unraisable: UnraisableHookArgs) -> None:
        number = _SIGNALS.get(unraisable.exc_type)
        if number is None:
            told(unraisable)
            return
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
        # None stands for a handler that was not set from Python.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _send(number: signal.Signals) -> None:
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:
        # To the main thread itself, so that a system call in which it waits ends too.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
