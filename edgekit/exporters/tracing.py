"""What torch says of a model that it cannot trace, cut to its cause."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator

from edgekit.core.errors import ExportError

_LOG = logging.getLogger(__name__)

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# torch quotes the user's line as Python's tracebacks do: the place, and the code below it.
_PLACE = re.compile(r'File "(?P<file>[^"\n]+)", line (?P<line>\d+), in \w+[ \t]*\n\s+(?P<code>.+)')
_LONGEST = 300


@contextlib.contextmanager
def tracing(what: str) -> Iterator[None]:
    """Turn whatever torch raises while it traces `what` into an ExportError with the cause.

    torch also prints the graph that it had reached on stderr; that and its full message are told
    at the level of debug (``-v``).
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except Exception as error:
        _LOG.debug("%s", _plain(f"{error}\n{printed.getvalue()}"))
        raise ExportError(
            f"torch.export cannot trace {what}: {_cause(error)}",
            hint="Data-dependent Python control flow in forward() is the usual cause: use"
            " torch.where or a fixed shape (--static DIM=N). -v shows all that torch says.",
        ) from error


def _cause(error: BaseException) -> str:
    """The first line of the innermost error, and the line of code that it quotes."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = _plain(str(error)).strip()
    first = text.partition("\n")[0].strip()
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}…"
    places = list(_PLACE.finditer(text))
    if not places:
        return said
    found = places[-1]
    return f"{said} (at {found['file']}:{found['line']}: {found['code'].strip()})"


def _plain(text: str) -> str:
    return _COLOURS.sub("", text)
