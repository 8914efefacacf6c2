"""Every error that edgekit raises on purpose, and the process exit code each one stands for.

EdgekitError(message, *, hint=None, result=None)
├─ ConfigError (2)            usage, configuration, paths, DATA
├─ MissingDependency (3)      an extra is not installed; the hint is the pip line
├─ StepError (4)              a step failed on a readable source
│  ├─ SourceError · ExportError · PruneError · QuantizeError · CompileError · MeasurementError
├─ BudgetNotMet (5)           a budget or gate was missed, or could not be decided; holds the result
├─ BundleError (6)
│  ├─ BundleCorrupt · BundleVersion · BundleUnsafe
└─ SessionError (7)
   ├─ EngineUnavailable · InputMismatch

Anything else that escapes is a bug in edgekit: exit code 1, with its traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class EdgekitError(Exception):
    """An expected failure: what is wrong, with its values, and what to do about it.

    ``result`` is the full result of a verb that ended with a verdict against it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, result: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.result = result

    @property
    def kind(self) -> str:
        """The name that stands in ``error.kind`` of the JSON output."""
        return type(self).__name__

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class ConfigError(EdgekitError):
    """Wrong usage, configuration, path or DATA."""

    exit_code = 2


class MissingDependency(EdgekitError):
    """A package of an optional extra is not installed; ``hint`` is the line that installs it."""

    exit_code = 3


class StepError(EdgekitError):
    """A step failed although its source could be read."""

    exit_code = 4


class SourceError(StepError):
    """The source model cannot be used as it is."""


class ExportError(StepError):
    """PyTorch to ONNX failed, or its result differs from PyTorch."""


class PruneError(StepError):
    """Pruning failed."""


class QuantizeError(StepError):
    """Quantization failed."""


class CompileError(StepError):
    """Compiling for a target failed."""


class MeasurementError(StepError):
    """A contender of a measurement crashed, hung or answered nonsense."""


class BudgetNotMet(EdgekitError):
    """An accuracy budget or a gate was missed, or the data could not decide; ``result`` has all."""

    exit_code = 5


class BundleError(EdgekitError):
    """A bundle that cannot be trusted or understood."""

    exit_code = 6


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, surplus, of another size or of another hash."""


class BundleVersion(BundleError):
    """The bundle was written for another version of the format."""


class BundleUnsafe(BundleError):
    """The bundle points outside itself, or would make its reader do more than read it."""


class SessionError(EdgekitError):
    """The engine or device cannot run this, or was asked for something it cannot answer."""

    exit_code = 7


class EngineUnavailable(SessionError):
    """The engine, its version, its device or a CPU feature the bundle requires is not here."""


class InputMismatch(SessionError):
    """The inputs do not fit what the manifest declares."""


# What the writing of a file says when the place is at fault rather than the program.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# Paths that cannot be: a file in the place of a folder, a name too long, a circle of links.
_NO_PATH = frozenset({errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})


def os_error_number(error: BaseException) -> int | None:
    """The errno behind an exception, also where a library has wrapped the OSError in its own."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno is not None:
            return current.errno
        # Rust and C++ writers (safetensors, onnxruntime, openvino) keep only the text.
        if "No space left on device" in str(current) or "StorageFull" in str(current):
            return errno.ENOSPC
        current = current.__cause__ or current.__context__
    return None


@contextmanager
def disk_errors(error: type[StepError], doing: str) -> Iterator[None]:
    """Turn a full disk into `error` and a forbidden place into ConfigError while `doing` something.

    `doing` completes the sentence "… while", for example "writing the bundle out/".
    """
    try:
        yield
    except EdgekitError:
        raise
    except Exception as cause:
        number = os_error_number(cause)
        if number in _NO_ROOM:
            raise error(
                f"The disk is full while {doing}.",
                hint="Free some space or choose an output on another disk with -o, and run again.",
            ) from cause
        if number in _NO_ACCESS:
            raise ConfigError(
                f"No permission while {doing}: {cause}.",
                hint="Choose an output folder that you can write to with -o.",
            ) from cause
        if number in _NO_PATH and isinstance(cause, OSError):
            raise ConfigError(
                f"Not a possible path while {doing}: {cause.strerror}.", hint="Check the path."
            ) from cause
        raise
