"""Which row of DATA an error is about, in its message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from edgekit.core.errors import ConfigError, InputMismatch, SessionError
from edgekit.sources.data import Samples

Said = TypeVar("Said")


@contextmanager
def reading(samples: Samples, index: int) -> Iterator[None]:
    """What is wrong with a sample itself as a ConfigError: DATA is at fault."""
    try:
        yield
    except (ConfigError, InputMismatch) as error:
        raise ConfigError(
            f"Row {samples.row(index)} of DATA cannot be read: {error.message}", hint=error.hint
        ) from error


@contextmanager
def asking(samples: Samples, indices: Sequence[int]) -> Iterator[None]:
    """What an engine or PyTorch says against some samples, with their rows."""
    try:
        yield
    except SessionError as error:
        rows = sorted({samples.row(index) for index in indices})
        told = f"Row {rows[0]}" if len(rows) == 1 else f"One of the rows {str(rows)[1:-1]}"
        raise type(error)(
            f"{told} of DATA cannot be judged: {error.message}", hint=error.hint
        ) from error


def answered(
    samples: Samples, indices: Sequence[int], ask: Callable[[Sequence[int]], Said]
) -> Said:
    """What `ask` says to some samples at once. Raises as it does, naming the row."""
    try:
        with asking(samples, indices):
            return ask(indices)
    except SessionError:
        # Once more, one by one: whose fault is it?
        for index in indices if len(indices) > 1 else ():
            answered(samples, [index], ask)
        raise
