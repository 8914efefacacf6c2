"""How a verb tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with one short sentence at the start of each part of the work."""

    def __call__(self, text: str, /) -> None:
        """Tell it."""


def silent(text: str, /) -> None:
    """The listener of the Python API: nobody."""
