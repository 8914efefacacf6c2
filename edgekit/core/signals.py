"""SIGTERM as an exception, so that what a program has begun is cleaned up on its way out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Terminated(BaseException):
    """SIGTERM, as an exception: `with` blocks clean up on the way out."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise Terminated in the main thread, from which this is called, when SIGTERM comes."""
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield
    finally:
        # None stands for a handler that was not set from Python.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
