"""Finds the external-data locations of an ONNX file without the onnx package.

Walks the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) along the
fields of onnx.proto that can lead to a TensorProto, and skips everything else by its length, so
that a file of gigabytes costs a few reads. It runs before an engine sees the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekit.core.errors import BundleCorrupt

# message → {field number → message of that field}; field numbers of onnx.proto (onnx 1.23).
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function", 20: "Training"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}  # fmt: skip
_MAX_DEPTH = 64


def external_locations(path: Path) -> frozenset[str]:
    """The external-data locations that an ONNX file names. Raises BundleCorrupt when cut short."""
    if path.stat().st_size == 0:
        raise BundleCorrupt(f"{path.name} is empty.", hint="Get the bundle again.")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return frozenset(_walk(data, 0, len(data), "Model", 0))
        except (IndexError, ValueError, UnicodeDecodeError) as error:
            raise BundleCorrupt(
                f"{path.name} is not a readable ONNX file ({error}).", hint="Get the bundle again."
            ) from error


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= end or shift > 63:
            raise ValueError("a number runs over its message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def read_fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, stop) of each field of the message in [at, end).

    The last one may stop behind `end`: then the message was cut short. Raises ValueError for what
    is no message.
    """
    while at < end:
        key, at = _varint(data, at, end)
        wire = key & 7
        start = at
        if wire == 0:
            _, at = _varint(data, at, end)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire == 2:
            length, start = _varint(data, at, end)
            at = start + length
        else:
            raise ValueError(f"wire type {wire}")
        yield key >> 3, wire, start, at


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of each length-delimited field of the message in [at, end)."""
    for number, wire, start, stop in read_fields(data, at, end):
        if stop > end:
            raise ValueError("a field runs over its message")
        if wire == 2:
            yield number, start, stop


def _walk(data: mmap.mmap, at: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    for number, start, stop in _fields(data, at, end):
        inner = _MESSAGES[message].get(number)
        if inner == "Entry":
            pair = {key: data[a:b] for key, a, b in _fields(data, start, stop)}
            if pair.get(1) == b"location":
                yield pair.get(2, b"").decode("utf-8")
        elif inner is not None:
            yield from _walk(data, start, stop, inner, depth + 1)
