"""Tensors that stay in 8 bits from one convolution to the next, through what lies between."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edgekit.quantization.graphs.drafting import Draft
from edgekit.quantization.graphs.grouping import Grouping
from edgekit.quantization.graphs.numbers import Scale
from edgekit.quantization.graphs.products import add_scale
from edgekit.quantization.graphs.reading import Graph

# What the engine fuses into the convolution before it.
_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu"})
# What moves numbers without changing them: the codes keep their scale.
_MOVING = frozenset(
    {"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"}
)
# What has an 8-bit kernel when all that it reads is in 8 bits.
_COMPUTING = frozenset({"Add", "AveragePool", "GlobalAveragePool", "Concat"})


@dataclass(frozen=True)
class Chains:
    """``roots`` names for each tensor of a chain the one whose range it has, often itself.

    ``leaving`` are the convolutions, and the Gemm before an activation, whose answers leave the
    graph as they are: 8 bits would be seen there, and without them their kernels are float.
    """

    roots: Mapping[str, str]
    leaving: tuple[str, ...] = ()

    def __contains__(self, tensor: str) -> bool:
        return tensor in self.roots


def find_chains(graph: Graph, grouping: Grouping, static: Collection[str]) -> Chains:
    """The chains that start at the convolutions among the nodes to be quantized.

    What leaves the graph, at once or only moved, is never rounded to 8 bits.
    """
    roots: dict[str, str] = {}
    leaving: list[str] = []
    for node in graph.model.graph.node:
        site = grouping.sites.get(node.name)
        if site is not None and site.operator != "Gather":
            end = _fused(graph, site.leaving)
            # A Gemm and its activation would become one float operator before they are 8-bit ones.
            starts = site.operator == "Conv" or (site.operator == "Gemm" and end != site.leaving)
            if starts and node.name in static:
                if _leaves(graph, end):
                    leaving.append(node.name)
                else:
                    roots[end] = end
            continue
        if len(node.output) != 1 or node.output[0] in roots or not node.input:
            continue
        output = node.output[0]
        if node.op_type in _MOVING and node.input[0] in roots:
            roots[output] = roots[node.input[0]]
        elif node.op_type in _COMPUTING and all(name in roots for name in node.input):
            end = _fused(graph, output)
            if not _leaves(graph, end):
                roots[end] = end
    return Chains(roots, tuple(leaving))


def _leaves(graph: Graph, tensor: str) -> bool:
    """Whether a tensor's numbers are an output of the graph, where they stand or moved."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        at = waiting.pop()
        if at in graph.outputs:
            return True
        for node in graph.readers.get(at, ()):
            moved = node.op_type in _MOVING and len(node.output) == 1 and node.input[0] == at
            if moved and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return False


def _fused(graph: Graph, tensor: str) -> str:
    """The tensor behind the activation that is fused into the node before, if there is one."""
    readers = graph.readers.get(tensor, ())
    if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS and tensor not in graph.outputs:
        return str(readers[0].output[0])
    return tensor


def exact_name(tensor: str) -> str:
    """What a tensor of a chain is called before it is rounded."""
    return f"{tensor}/exact"


def add_chained(draft: Draft, tensor: str, scale: Scale) -> None:
    """Round a tensor that was just made: whoever reads it reads what is left."""
    exact = exact_name(tensor)
    draft.rename_output(tensor, exact)
    step, zero = add_scale(draft, tensor, scale)
    codes = f"{tensor}/codes"
    draft.add("QuantizeLinear", [exact, step, zero], [codes], codes)
    draft.add("DequantizeLinear", [codes, step, zero], [tensor], f"{tensor}/told")
