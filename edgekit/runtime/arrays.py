"""One call's inputs in a file: an .npz with an array for each of them."""

from __future__ import annotations

import lzma
import os
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.runtime.session import Array

# What numpy and zipfile raise for a file that is not what it says: a RuntimeError for one that is
# encrypted, its kind NotImplementedError for a compression that nobody knows, errors of Python's
# syntax for the header of an array.
UNREADABLE = (
    ValueError, OverflowError, OSError, EOFError, KeyError, MemoryError, RuntimeError, SyntaxError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
# Characters of a path that a message quotes.
_SHOWN = 250


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays by name. Raises ConfigError for what is no archive of plain arrays."""
    # Path.is_file() raises where a text stands in for a path and is too long for one.
    if not os.path.isfile(path):  # noqa: PTH113
        told = str(path)
        raise ConfigError(
            f"There is no file {told if len(told) <= _SHOWN else f'{told[: _SHOWN - 1]}…'}.",
            hint="A custom model takes a .npz file with one array per input.",
        )
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ConfigError(
                f"{path} holds one array without a name.",
                hint="Write it with numpy.savez(FILE, INPUT=array, …), named as the inputs.",
            )
        with archive:
            found = {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        raise ConfigError(
            f"{path} is not a readable .npz file: {str(error) or 'it is empty'}.",
            hint="Write it with numpy.savez(FILE, INPUT=array, …).",
        ) from error
    for name, array in found.items():
        # numpy gives the bytes of what is no array, and Python's objects where pickles are allowed.
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            raise ConfigError(
                f"{path} holds {name!r}, which is no array of numbers.",
                hint="Write it with numpy.savez(FILE, INPUT=array, …), without objects.",
            )
    return found
