"""How many axes the tensors of an ONNX graph have, as far as its operators tell."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

# What comes out has the axes of the first input.
_ALIKE = frozenset(
    {"Cast", "GroupQueryAttention", "Identity", "LayerNormalization", "MatMulNBits",
     "RMSNormalization", "RotaryEmbedding", "Sigmoid", "SkipSimplifiedLayerNormalization", "Split",
     "Tanh", "Transpose"}
)  # fmt: skip
# What comes out has the axes of the wider input.
_WIDER = frozenset({"Add", "Div", "Mul", "Sub"})


def ranks_of(graph: ir.Graph) -> Mapping[str, int]:
    """The number of axes by name, of those tensors where it is known.

    Shapes that the graph declares are believed. A graph that was quantized declares none, and holds
    operators that ONNX's own inference does not know.
    """
    ranks: dict[str, int] = {}
    lengths: dict[str, int] = {}
    for value in (*graph.inputs, *graph.initializers.values()):
        _note(value, ranks, lengths)
    for node in graph:
        found = _rank(node, ranks, lengths)
        length = _length(node, ranks, lengths)
        for value in node.outputs:
            if found is not None:
                ranks[value.name or ""] = found
            if length is not None:
                lengths[value.name or ""] = length
            _note(value, ranks, lengths)
    return ranks


def _note(value: ir.Value, ranks: dict[str, int], lengths: dict[str, int]) -> None:
    """What is declared of a tensor: its axes, and how many numbers a list has."""
    if value.shape is None:
        return
    ranks[value.name or ""] = len(value.shape)
    if len(value.shape) == 1 and isinstance(value.shape[0], int):
        lengths[value.name or ""] = value.shape[0]


def _rank(node: ir.Node, ranks: Mapping[str, int], lengths: Mapping[str, int]) -> int | None:
    given = [None if one is None else ranks.get(one.name or "") for one in node.inputs]
    if node.op_type in _ALIKE:
        return given[0]
    first, second = (given[0], given[1]) if len(given) > 1 else (None, None)
    if node.op_type == "Reshape":
        target = node.inputs[1]
        return None if target is None else lengths.get(target.name or "")
    if first is None or second is None:
        return None
    if node.op_type in _WIDER:
        return max(first, second)
    if node.op_type == "MatMul" and second == 2:
        return first
    return first + second - 1 if node.op_type == "Gather" else None


def _length(node: ir.Node, ranks: Mapping[str, int], lengths: Mapping[str, int]) -> int | None:
    """How many numbers the list has that a node makes, where it makes one of a shape."""
    if node.op_type == "Shape":
        rank = ranks.get(_name(node.inputs[0]))
        ends = node.attributes.get("end")
        start, end = node.attributes.get_int("start", 0), None if ends is None else ends.as_int()
        return None if rank is None else len(range(rank)[start:end])
    if node.op_type == "Concat":
        parts = [lengths.get(_name(one)) for one in node.inputs]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None
    return None


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
