"""What an ONNX graph was converted to: the row of the table of tolerances that it answers in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit.core.lazy import require
from edgekit.core.onnx_operators import BLOCKWISE, INT8, INT8_BEGINNING
from edgekit.core.tolerance import Precision

if TYPE_CHECKING:
    import onnx


def precision_of(nodes: Iterable[onnx.NodeProto], tensors: Iterable[onnx.TensorProto]) -> Precision:
    """The coarsest that nodes compute with or weights are stored in.

    `tensors` are all that is stored. Of floats the matrices tell, where there are any: an epsilon
    in half precision makes no model of half precision, and large tables in float32 beside halved
    layers none of float32.
    """
    types = require("onnx", "build").TensorProto
    floats = {types.FLOAT, types.DOUBLE, types.FLOAT16, types.BFLOAT16}
    stored: set[int] = set()
    layers: set[int] = set()
    for tensor in tensors:
        stored.add(tensor.data_type)
        if tensor.data_type in floats and len(tensor.dims) > 1:
            layers.add(tensor.data_type)
    bits = {found for node in nodes for found in _bits(node)}
    if 4 in bits or stored & {types.INT4, types.UINT4}:
        return "int4"
    if bits:
        return "int8"
    found = layers or stored & floats
    if types.BFLOAT16 in found:
        return "bf16"
    if layers:
        return "fp16" if types.FLOAT16 in layers else "fp32"
    return "fp16" if found == {types.FLOAT16} else "fp32"


def _bits(node: onnx.NodeProto) -> tuple[int, ...]:
    if node.op_type in INT8 or node.op_type.startswith(INT8_BEGINNING):
        return (8,)
    if node.op_type not in BLOCKWISE:
        return ()
    told = BLOCKWISE[node.op_type]
    return (next((int(item.i) for item in node.attribute if item.name == told), 4),)
