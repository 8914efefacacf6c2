"""Constants of a graph in one place: those that nodes make become weights like the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.lazy import require
from edgekit.graph.onnx_nodes import inner_reads, live_nodes

if TYPE_CHECKING:
    import onnx

_STANDARD = frozenset({"", "ai.onnx"})
# The kinds of value that a Constant node may hold, and what they are as an array. Sparse tensors
# and strings are never weights of a product.
_SCALARS = {"value_float": ("f", np.float32), "value_int": ("i", np.int64)}
_LISTS = {"value_floats": ("floats", np.float32), "value_ints": ("ints", np.int64)}


def fold_constants(graph: onnx.GraphProto) -> None:
    """Make weights of Constant nodes, and let who reads a weight through Identity read the weight.

    Nodes that make an output of the graph stay: its name belongs to the interface. So do those that
    an inner graph reads a copy from. What no output hangs on is dropped.
    """
    outputs = {value.name for value in graph.output}
    inner = {name for node in graph.node for name in inner_reads(node)}
    weights = {one.name for one in graph.initializer}
    # A weight that is an input as well may be replaced by the caller.
    weights -= {value.name for value in graph.input}
    same: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in same:
                node.input[at] = same[name]
        if node.domain in _STANDARD and not outputs & set(node.output):
            value = _value(node) if node.op_type == "Constant" else None
            if value is not None:
                graph.initializer.append(value)
                weights.add(value.name)
                continue
            if (
                node.op_type == "Identity"
                and node.input[0] in weights
                and node.output[0] not in inner
            ):
                same[node.output[0]] = node.input[0]
                continue
        kept.append(node)
    kept = live_nodes(kept, outputs)
    if len(kept) == len(graph.node):
        return
    # Messages of a repeated field are its own: they are gone once it is cleared.
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)


def _value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant node makes, under the name of its output; None for what is no array."""
    to_tensor = require("onnx.numpy_helper", "build").from_array
    name = node.output[0]
    for item in node.attribute:
        if item.name == "value":
            tensor = type(item.t)()
            tensor.CopyFrom(item.t)
            tensor.name = name
            return tensor
        if item.name in _SCALARS or item.name in _LISTS:
            held, kind = (_SCALARS | _LISTS)[item.name]
            made: onnx.TensorProto = to_tensor(np.array(getattr(item, held), dtype=kind), name)
            return made
    return None
