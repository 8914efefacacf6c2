"""What the rewrites of a decoder ask nodes and do to tensors."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

#: The domain of ONNX Runtime's own operators.
DOMAIN = "com.microsoft"
STANDARD = frozenset({"", "ai.onnx"})


def is_node(node: ir.Node | None, kind: str, domain: str = "") -> TypeGuard[ir.Node]:
    """Whether a node is that operator, of the standard where no other domain is named."""
    if node is None or node.op_type != kind:
        return False
    return node.domain == domain or {node.domain, domain} <= STANDARD


def store(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """An array as an initializer of a graph."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Let another node make a tensor, under its name."""
    new.name, new.type, new.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None
