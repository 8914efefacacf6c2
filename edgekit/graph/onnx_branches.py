"""Which inputs of an ONNX graph decide what it does, rather than what it does it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.core.lazy import require
from edgekit.graph.onnx_nodes import reads

if TYPE_CHECKING:
    import onnx


def branch_inputs(graph: onnx.GraphProto) -> tuple[str, ...]:
    """The inputs of one whole number that a condition of the main graph is made of.

    A sampling rate or a mode: made-up numbers take a branch that nobody means.
    """
    return tuple(
        value.name
        for value in graph.input
        if _is_one_number(value) and _reaches_a_condition(graph, value.name)
    )


def _is_one_number(value: onnx.ValueInfoProto) -> bool:
    types = require("onnx", "build").TensorProto
    tensor = value.type.tensor_type
    whole = tensor.elem_type in (types.INT32, types.INT64, types.UINT8, types.INT8)
    return whole and tensor.HasField("shape") and all(d.dim_value == 1 for d in tensor.shape.dim)


def _reaches_a_condition(graph: onnx.GraphProto, name: str) -> bool:
    # Producers stand before their readers: ONNX wants graphs sorted.
    made_of = {name}
    for node in graph.node:
        if node.op_type == "If" and node.input[:1] and node.input[0] in made_of:
            return True
        if not made_of.isdisjoint(reads(node)):
            made_of.update(node.output)
    return False
