"""Reads an ONNX graph without its weights, whatever these weigh.

Parsing a file takes twice its size in memory. Here the fields of the message are copied on the wire
(https://protobuf.dev/programming-guides/encoding/), but for the numbers of large initializers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Initializers up to here may be shapes, which the sizes of other tensors follow from.
_SMALL = 1024
# Field numbers of onnx.proto: ModelProto.graph and GraphProto.initializer; of TensorProto what
# describes it: dims, data_type, name, external_data, data_location.
_GRAPH, _INITIALIZER = 7, 5
_DESCRIPTION = frozenset({1, 2, 8, 13, 14})
_LENGTH_DELIMITED = 2


def read_light(path: Path) -> onnx.ModelProto:
    """The model in a file; initializers of more than 1,024 bytes have all but their numbers.

    Raises ValueError for a file that is not made of protobuf fields, and what `onnx` raises for one
    that is no model.
    """
    import onnx

    model = onnx.ModelProto()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        parts = []
        for number, start, content, end in _fields(data, 0, len(data)):
            if number == _GRAPH:
                graph = b"".join(_without_weights(data, content, end))
                parts += [data[start : start + 1], _varint_bytes(len(graph)), graph]
            else:
                parts.append(data[start:end])
        model.ParseFromString(b"".join(parts))
    return model


def append_outputs(path: Path, names: list[str]) -> None:
    """Make tensors outputs of the graph in a file; of no type, which the engine infers.

    Only a few bytes are written: a message that follows another one is merged with it.
    """
    import onnx

    more = onnx.ModelProto()
    more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with path.open("ab") as stream:
        stream.write(more.SerializeToString())


def _without_weights(data: mmap.mmap, at: int, end: int) -> Iterator[bytes]:
    for number, start, content, stop in _fields(data, at, end):
        if number != _INITIALIZER or stop - content <= _SMALL:
            yield data[start:stop]
            continue
        tensor = b"".join(
            data[a:b] for field, a, _, b in _fields(data, content, stop) if field in _DESCRIPTION
        )
        yield data[start : start + 1]
        yield _varint_bytes(len(tensor))
        yield tensor


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, start, start of the content, end) of each field of a message."""
    while at < end:
        start = at
        key, at = _varint(data, at, end)
        wire = key & 7
        content = at
        if wire == 0:
            _, at = _varint(data, at, end)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == _LENGTH_DELIMITED:
            length, content = _varint(data, at, end)
            at = content + length
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at > end:
            raise ValueError("a field runs over its message")
        yield key >> 3, start, content, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number runs over its message")


def _varint_bytes(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
