"""GGUF files, llama.cpp's container of weights and tokenizer, read as plain values and arrays.

Read as the format's specification describes version 3; blocks of weights are brought to float32.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.errors import ZooError

Floats = NDArray[np.float32]

_SCALARS: Mapping[int, str] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
# What lies between two tensors is filled up to this, unless the file says otherwise.
_ALIGNMENT = 32
# Weights that share a scale.
_BLOCK = 32


@dataclass(frozen=True)
class Gguf:
    """A file's values by key, and its tensors by name, in float32 and numpy's order of axes."""

    values: Mapping[str, object]
    tensors: Mapping[str, Floats]


def read_gguf(data: bytes) -> Gguf:
    """Read a whole file. Raises ZooError for another format, or weights of an unknown kind."""
    head = _Cursor(data)
    if head.take(4) != b"GGUF" or head.number("I") != 3:
        raise ZooError("This is no GGUF file of version 3. Check the package.")
    tensors, pairs = head.number("Q"), head.number("Q")
    values: dict[str, object] = {}
    for _ in range(pairs):
        key = head.text()
        values[key] = head.value(head.number("I"))
    listed = []
    for _ in range(tensors):
        name = head.text()
        sizes = [head.number("Q") for _ in range(head.number("I"))]
        listed.append((name, sizes[::-1], head.number("I"), head.number("Q")))
    alignment = values.get("general.alignment", _ALIGNMENT)
    assert isinstance(alignment, int)
    start = -(-head.place // alignment) * alignment
    return Gguf(values, {name: _weights(data, start + at, s, k) for name, s, k, at in listed})


class _Cursor:
    """Reads little-endian values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def take(self, size: int) -> bytes:
        self.place += size
        return self._data[self.place - size : self.place]

    def number(self, kind: str) -> int:
        number: int = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]
        return number

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> object:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            of, count = self.number("I"), self.number("Q")
            return [self.value(of) for _ in range(count)]
        return self.number(_SCALARS[kind])


def _plain(data: NDArray[np.uint8]) -> Floats:
    return data.reshape(-1).view("<f4")


def _q4_1(blocks: NDArray[np.uint8]) -> Floats:
    """A scale and a least value in float16, then the lower half's 4 bits and the upper half's."""
    scale, least = (blocks[:, at : at + 2].copy().view("<f2").astype(np.float32) for at in (0, 2))
    numbers = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return np.asarray(numbers.astype(np.float32) * scale + least)


def _q8_0(blocks: NDArray[np.uint8]) -> Floats:
    """A scale in float16, then 8 bits with a sign for each weight."""
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return np.asarray(blocks[:, 2:].view(np.int8).astype(np.float32) * scale)


# Bytes of a block of weights and what makes numbers of blocks, by the file's number for a kind.
_KINDS: Mapping[int, tuple[int, Callable[[NDArray[np.uint8]], Floats]]] = {
    0: (4 * _BLOCK, _plain),
    3: (4 + _BLOCK // 2, _q4_1),
    8: (2 + _BLOCK, _q8_0),
}


def _weights(data: bytes, start: int, shape: list[int], kind: int) -> Floats:
    if kind not in _KINDS:
        raise ZooError(f"The GGUF file holds weights of kind {kind}; known are {sorted(_KINDS)}.")
    size, read = _KINDS[kind]
    count = prod(shape) // _BLOCK
    blocks = np.frombuffer(data, np.uint8, count * size, start).reshape(count, size)
    return read(blocks).reshape(shape)
