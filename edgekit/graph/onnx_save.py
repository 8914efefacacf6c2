"""Writes an ONNX model with its weights streamed from where they lie in memory.

`onnx_ir.save` builds the whole protobuf message first and takes three times the weights. Here only
the graph without its weights becomes a message; each weight is then appended to it on the wire
(https://protobuf.dev/programming-guides/encoding/), or written to an external data file.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgekit.graph.disk import INLINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

# Smaller tensors stay in the message: they are shapes, scalars and biases.
_SMALL = 1024
# Engines map external weights into memory by pages.
_ALIGNMENT = 4096
_BLOCK = 1 << 24

# Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


@dataclass(frozen=True)
class _Weight:
    header: bytes
    tensor: ir.TensorProtocol
    size: int

    @property
    def message_size(self) -> int:
        """The bytes of its TensorProto on the wire."""
        return len(self.header) + len(_tag(_RAW_DATA, self.size)) + self.size


def save_model(model: ir.Model, path: Path, *, inline_limit: int = INLINE_BYTES) -> tuple[str, ...]:
    """Write the model to `path`; the names of the files, graph first.

    Weights of more than `inline_limit` bytes together go to `<name>.data` beside it.
    """
    large = [
        value
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.const_value.nbytes > _SMALL
    ]
    total = sum(value.const_value.nbytes for value in large if value.const_value is not None)
    if total > inline_limit:
        data = path.with_name(path.name + ".data")
        _write_external(model, large, path, data)
        return (path.name, data.name)
    _write_inline(model, large, path)
    return (path.name,)


def _write_inline(model: ir.Model, large: Sequence[ir.Value], path: Path) -> None:
    weights = [_weight(value) for value in large]
    with _without(model, large):
        proto = ir.to_proto(model)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    envelope = proto.SerializeToString()
    body = sum(
        len(_tag(_INITIALIZER, weight.message_size)) + weight.message_size for weight in weights
    )
    with path.open("wb") as stream:
        stream.write(envelope)
        stream.write(_tag(_GRAPH, len(graph) + body))
        stream.write(graph)
        for weight in weights:
            stream.write(_tag(_INITIALIZER, weight.message_size))
            stream.write(weight.header)
            stream.write(_tag(_RAW_DATA, weight.size))
            _write_tensor(stream, weight.tensor)


def _write_external(model: ir.Model, large: Sequence[ir.Value], path: Path, data: Path) -> None:
    import onnx

    weights = [_weight(value) for value in large]
    with _without(model, large):
        proto = ir.to_proto(model)
    with data.open("wb") as stream:
        for value, weight in zip(large, weights, strict=True):
            offset = -(-stream.tell() // _ALIGNMENT) * _ALIGNMENT
            stream.write(b"\0" * (offset - stream.tell()))
            _write_tensor(stream, weight.tensor)
            entry = proto.graph.initializer.add()
            entry.ParseFromString(weight.header)
            entry.data_location = onnx.TensorProto.EXTERNAL
            for key, item in (
                ("location", data.name),
                ("offset", str(offset)),
                ("length", str(weight.size)),
            ):
                entry.external_data.add(key=key, value=item)
            assert value.name == entry.name
    path.write_bytes(proto.SerializeToString())


def _weight(value: ir.Value) -> _Weight:
    import onnx

    tensor = value.const_value
    assert tensor is not None
    header = onnx.TensorProto(
        name=value.name or "", data_type=int(tensor.dtype), dims=list(tensor.shape.numpy())
    )
    return _Weight(header.SerializeToString(), tensor, tensor.nbytes)


@contextmanager
def _without(model: ir.Model, values: Sequence[ir.Value]) -> Iterator[None]:
    """The graph's initializers without the given ones, for the time of the block."""
    holder = model.graph.initializers
    everything = dict(holder)
    for value in values:
        holder.pop(value.name or "")
    try:
        yield
    finally:
        holder.clear()
        holder.update(everything)


def _write_tensor(stream: IO[bytes], tensor: ir.TensorProtocol) -> None:
    array = tensor.numpy()
    if array.nbytes != tensor.nbytes:
        # Types below a byte are packed by onnx_ir.
        stream.write(tensor.tobytes())
    elif array.flags.c_contiguous:
        stream.write(array.reshape(-1).view(np.uint8).data)
    else:
        # A transposed view is copied by blocks of rows, never whole.
        rows = max(1, _BLOCK // max(1, array[:1].nbytes))
        for start in range(0, array.shape[0], rows):
            block = np.ascontiguousarray(array[start : start + rows])
            stream.write(block.reshape(-1).view(np.uint8).data)


def _tag(field: int, length: int) -> bytes:
    """The key of a length-delimited field and its length."""
    return _varint(field << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
