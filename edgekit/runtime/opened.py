"""Files that are told apart by their first bytes: opened once, or one clear error."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from edgekit.core.errors import InputMismatch

#: What a file begins with, at which place, and what it is then.
Beginnings: TypeAlias = tuple[tuple[bytes, int, str], ...]

# What cannot be wound back, as a pipe, is read to its end first: this much at most.
_MOST_PIPED = 1 << 29
_LONGEST_NAME = 250


@contextmanager
def opened_file(path: Path, what: str) -> Iterator[BinaryIO]:
    """A file opened to read; `what` it should be, for messages. Raises InputMismatch."""
    name = shown(str(path))
    if str(path).startswith(("http:/", "https:/")):
        raise InputMismatch(
            f"{name} is an address; edgekit reads no {what}s from the network.",
            hint="Download it and give its path or its bytes.",
        )
    try:
        stream = path.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputMismatch(
            f"The {what} {name} cannot be opened: {reason}.", hint="Check the path."
        ) from error
    with stream:
        yield stream


def first_bytes(stream: BinaryIO, name: str, what: str) -> tuple[BinaryIO, bytes]:
    """The stream, wound back, and its first 16 bytes; a pipe is read into memory.

    Raises InputMismatch for one that cannot be read, or is a pipe without end.
    """
    try:
        if not stream.seekable():
            stream = _piped(stream, name)
        head = stream.read(16)
        stream.seek(0)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputMismatch(
            f"The {what} {name} cannot be read: {reason}.", hint="Save it as a file first."
        ) from error
    return stream, head


def _piped(stream: BinaryIO, name: str) -> BinaryIO:
    data = stream.read(_MOST_PIPED + 1)
    if len(data) > _MOST_PIPED:
        raise InputMismatch(
            f"{name} is not a plain file and holds more than {_MOST_PIPED >> 20} MiB.",
            hint="Save it as a file first.",
        )
    return io.BytesIO(data)


def kind_of(head: bytes, table: Beginnings) -> str | None:
    """What begins like this, None for what is in no row of the table."""
    for begins, at, kind in table:
        if head[at : at + len(begins)] == begins:
            return kind
    return None


def told(head: bytes, others: Beginnings) -> str:
    """What something is that begins like this, as far as it is known: "it is empty"."""
    if not head:
        return "it is empty"
    known = kind_of(head, others)
    if known is not None:
        return f"it is {known}"
    return f"it begins with {head[:12].decode('utf-8', 'backslashreplace')!r}"


def shown(path: str) -> str:
    """A path for a message, however long it is."""
    return path if len(path) <= _LONGEST_NAME else path[: _LONGEST_NAME - 1] + "…"
