"""What a command shows: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

import click

from edgekit.core.errors import EdgekitError
from edgekit.core.results import to_json

#: Where the context keeps the arguments as they were typed.
WORDS = "edgekit.words"


class ReaderGone(BaseException):
    """Nobody reads the answers any more, and giving them was all that the command did."""


class Outlet(io.TextIOWrapper):
    """A standard stream whose reader may go: what it is told from then on is dropped.

    Who pipes into ``head`` has seen enough of the text, and still wants the bundle or the verdict
    in the exit code. Only where the text is all there is (``ends`` true) ReaderGone is raised.
    """

    ends = False
    stands_for: TextIO | None = None

    def write(self, text: str, /) -> int:
        """See `io.TextIOBase.write`."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._reader_gone()
            return len(text)

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
        try:
            super().flush()
        except BrokenPipeError:
            self._reader_gone()

    def _reader_gone(self) -> None:
        # What is buffered goes there too, instead of failing again at the interpreter's last flush.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if self.ends:
            raise ReaderGone


def outlet(stream: TextIO | None) -> Outlet | None:
    """The stream as an `Outlet`; None for one that was closed before we started."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    settings = (stream.encoding, stream.errors, None, stream.line_buffering, stream.write_through)
    opened = Outlet(stream.buffer, *settings)
    # Not detached, for libraries may hold it; and kept, for with it goes what both write to.
    opened.stands_for = stream
    return opened


class Console:
    """One command's way to speak.

    With ``--json`` stdout holds one JSON object and nothing else: the file descriptor is pointed
    at stderr while the command runs, since libraries and child processes print where they like.
    """

    def __init__(self, *, json_output: bool) -> None:
        self.json_output = json_output
        self.verbosity = 0
        self._stdout = -1
        if json_output:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)

    def status(self, text: str) -> None:
        """What is being done now; silent with -q."""
        if self.verbosity >= 0:
            print(printable(text), file=sys.stderr, flush=True)

    def result(self, value: object, text: str) -> None:
        """The outcome: `value` as JSON or `text` for a person."""
        if self.json_output:
            self._write_json(to_json(value))
        else:
            print(printable(text), flush=True)

    def fail(self, error: EdgekitError) -> None:
        """One clear error; with --json also the full result of a missed budget."""
        if self.json_output:
            plain: dict[str, object] = {}
            if error.result is not None:
                found = to_json(error.result)
                plain = dict(found) if isinstance(found, dict) else {}
            self._write_json({**plain, "error": _error(error)})
        print(f"Error: {printable(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"  {printable(error.hint)}", file=sys.stderr)

    def interrupted(self, text: str, code: int) -> None:
        """The end by a signal."""
        if self.json_output:
            kind = "Interrupted" if code == 130 else "Terminated"
            self._write_json(
                {"error": {"kind": kind, "message": text, "hint": None, "exit_code": code}}
            )
        print(text, file=sys.stderr)

    def close(self) -> None:
        """Give stdout back."""
        if self._stdout >= 0:
            sys.stdout.flush()
            os.dup2(self._stdout, 1)
            os.close(self._stdout)
            self._stdout = -1

    def _write_json(self, value: object) -> None:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        # A file name that is not UTF-8 is told all the same.
        data = text.encode("utf-8", errors="backslashreplace") + b"\n"
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._stdout, view) :]
        except BrokenPipeError:
            # As an Outlet does: the exit code still tells how it went.
            return


def command_line() -> str:
    """The running command as a line for a shell, for results that tell how to make them again."""
    words: Sequence[str] = click.get_current_context().meta[WORDS]
    return shlex.join(["edgekit", *words])


def _error(error: EdgekitError) -> dict[str, object]:
    return {
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


# Names, notes and texts come from strangers' files; a terminal obeys what is among them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_IN_CELLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: control characters are spelled out."""
    return _CONTROLS.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; None is an en dash; numbers stand to the right."""
    cells = [
        ["–" if cell is None else _IN_CELLS.sub(_spelled, str(cell)) for cell in row]
        for row in rows
    ]
    numeric = [
        bool(cells) and all(_is_number(row[column]) for row in cells)
        for column in range(len(header))
    ]
    widths = [
        max([len(title), *(len(row[column]) for row in cells)])
        for column, title in enumerate(header)
    ]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), line(["─" * width for width in widths]), *map(line, cells)])


def _is_number(text: str) -> bool:
    return text == "–" or text.replace(",", "")[:1].lstrip("-+").isdigit()


def human_bytes(count: int | float | None) -> str:
    """A size as a person reads it, in decimal units as disks and registries give it."""
    if count is None:
        return "–"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
