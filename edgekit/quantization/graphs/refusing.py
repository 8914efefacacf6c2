"""Why an operator with constant weights is left in float: no refusal goes without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.graph.onnx_nodes import all_nodes, inner_graphs
from edgekit.quantization.graphs.reading import Graph, attribute

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")
# Float types of tensors, by their numbers in ONNX: float32, float16, double, bfloat16.
_FLOATS = frozenset({1, 10, 11, 16})
# Where the weights of what multiplies by them stand among the inputs.
_WEIGHTS = {
    "MatMul": (0, 1), "Gemm": (0, 1), "Conv": (1,), "ConvTranspose": (1,),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2), "Attention": (1,), "DeformConv": (1,),
    "FusedMatMul": (0, 1), "FusedGemm": (0, 1), "FusedConv": (1,), "TransposeMatMul": (0, 1),
}  # fmt: skip
# Operators of ONNX itself whose second input is no weight.
_NO_WEIGHT = frozenset({"Attention"})
_UNSUITED = {
    "ConvTranspose": "a transposed convolution has no 8-bit kernel",
    "DeformConv": "a deformable convolution has no 8-bit kernel",
    "LSTM": "recurrent layers are left in float",
    "GRU": "recurrent layers are left in float",
    "RNN": "recurrent layers are left in float",
    "Einsum": "an Einsum has no 8-bit kernel",
}


def why_not(graph: Graph, node: onnx.NodeProto) -> str | None:
    """Why a node that is no site stays in float; None for one that has no constant weights.

    A product of nothing but constants has none: the engine computes it once.
    """
    if any(_has_product(graph, inner) for inner in inner_graphs(node)):
        return "it multiplies by weights inside a graph of its own"
    if node.op_type == "Einsum":
        places: tuple[int, ...] = tuple(range(len(node.input)))
    elif node.domain in _STANDARD and node.op_type in _NO_WEIGHT:
        return None
    else:
        places = _WEIGHTS.get(node.op_type, ())
    held = [at for at in places if at < len(node.input) and _is_constant(graph, node.input[at])]
    if not held or all(_is_constant(graph, name) for name in node.input if name):
        return None
    if node.domain not in _STANDARD:
        return f"it is an operator of {node.domain}: only ONNX's own are quantized"
    if node.op_type in _UNSUITED:
        return _UNSUITED[node.op_type]
    if held[0] == 0:
        return "its weight stands on the left, where products in 8 bits have the activations"
    return _of_weight(graph, node)


def _of_weight(graph: Graph, node: onnx.NodeProto) -> str:
    """Why a MatMul, Gemm or Conv is refused for its weight, or for what it does beside it."""
    name = node.input[1]
    maker = graph.producers.get(name)
    if maker is not None:
        return f"its weight is computed by {maker.name} ({maker.op_type}) while the graph runs"
    if not graph.is_float(name):
        return f"its weight {name} is not float32"
    if node.op_type == "Gemm":
        for factor in ("alpha", "beta"):
            value = attribute(node, factor, 1)
            if value != 1:
                return f"it multiplies by {factor} = {value:g} besides"
        if attribute(node, "transA", 0):
            return "it turns its activations first"
    return f"its weight has {len(graph.shape(name))} axes, products in 8 bits take 2"


def _has_product(graph: Graph, inner: onnx.GraphProto) -> bool:
    own = {one.name for one in inner.initializer if one.data_type in _FLOATS}
    own |= {name for node in inner.node if node.op_type == "Constant" for name in node.output}
    return any(
        name in own or _is_constant(graph, name)
        for node in all_nodes(inner.node)
        for at in _WEIGHTS.get(node.op_type, ())
        if at < len(node.input) and not (node.domain in _STANDARD and node.op_type in _NO_WEIGHT)
        for name in [node.input[at]]
    )


def _is_constant(graph: Graph, name: str) -> bool:
    """Whether a tensor is a float weight, or computed from nothing but weights."""
    found = False
    waiting, seen = [name], {name}
    while waiting:
        at = waiting.pop()
        weight = graph.weights.get(at)
        if weight is not None:
            found |= weight.data_type in _FLOATS
            continue
        maker = graph.producers.get(at)
        # What has no inputs at all draws random numbers, or was folded.
        if maker is None or not any(maker.input):
            return False
        fresh = [one for one in maker.input if one and one not in seen]
        seen.update(fresh)
        waiting += fresh
    return found
