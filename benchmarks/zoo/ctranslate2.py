"""CTranslate2's `model.bin`, read as plain arrays.

The container is a list of named arrays, then one of names that stand for others; as its writer,
version 6 of the format, lays it out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.errors import ZooError

_VERSION = 6
_DTYPES: Mapping[int, str] = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


@dataclass(frozen=True)
class Container:
    """What a file holds: the kind of model, its arrays by name, and other names of some."""

    kind: str
    arrays: Mapping[str, NDArray[np.generic]]
    aliases: Mapping[str, str]


def read_container(data: bytes) -> Container:
    """Read a whole file. Raises ZooError for another format or a file with more behind it."""
    place = 0

    def number(form: str) -> int:
        nonlocal place
        found: int = struct.unpack_from(f"<{form}", data, place)[0]
        place += struct.calcsize(f"<{form}")
        return found

    def text() -> str:
        nonlocal place
        size = number("H")
        place += size
        return data[place - size : place].rstrip(b"\0").decode("utf-8")

    version = number("I")
    if version != _VERSION:
        raise ZooError(f"This is no CTranslate2 file of version {_VERSION}. Check the package.")
    kind = text()
    number("I")  # the revision of this kind
    arrays: dict[str, NDArray[np.generic]] = {}
    for _ in range(number("I")):
        name = text()
        shape = tuple(number("I") for _ in range(number("B")))
        dtype = number("B")
        size = number("I")
        if dtype not in _DTYPES or np.dtype(_DTYPES[dtype]).itemsize * prod(shape) != size:
            raise ZooError(f"{name} is of type {dtype} with {size} bytes for {list(shape)}.")
        arrays[name] = np.frombuffer(data, _DTYPES[dtype], prod(shape), place).reshape(shape)
        place += size
    aliases = {text(): text() for _ in range(number("I"))}
    if place != len(data):
        raise ZooError(f"The CTranslate2 file has {len(data) - place} bytes behind its end.")
    return Container(kind, arrays, aliases)
