"""Fewer, larger nodes of a decoder for ONNX Runtime, whose tokens are many small products.

At one token a product of small models takes some 20 microseconds, so that the start and the end of
each node, which all threads wait for, are a part of the time.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgekit.graph.decoders.nodes import DOMAIN, is_node, store, take_over
from edgekit.graph.decoders.ranks import ranks_of

_EPSILON = 1e-5
# Inputs of a product: what is multiplied, weights, their scales and perhaps their zeros.
_PLAIN = (3, 4)


def fuse_norms(model: ir.Model) -> int:
    """Make one node of each sum of two tensors and its RMSNormalization; the number of them.

    `com.microsoft.SkipSimplifiedLayerNormalization` gives the sum as well, which the residual
    stream goes on with.
    """
    graph = model.graph
    ranks = ranks_of(graph)
    fused = 0
    for node in list(graph):
        total, scale = _normalised(node)
        adding = None if total is None else total.producer()
        if scale is None or total is None or adding is None or not is_node(adding, "Add"):
            continue
        if total.is_graph_output() or not _alike(adding.inputs, ranks):
            continue
        skipping = ir.node(
            "SkipSimplifiedLayerNormalization",
            [*adding.inputs, scale],
            {"epsilon": node.attributes.get_float("epsilon", _EPSILON)},
            domain=DOMAIN,
            num_outputs=4,
            name=f"{node.name or total.name}/skip",
        )
        # Everything that reads the sum comes behind it.
        graph.insert_after(adding, [skipping])
        take_over(node.outputs[0], skipping.outputs[0])
        take_over(total, skipping.outputs[3])
        fused += 1
    return _done(model, fused)


def merge_products(model: ir.Model) -> int:
    """Make one product of those with 4- or 8-bit weights that read one tensor; how many went.

    Queries, keys and values of a layer are such, and the two halves of a gated feed-forward block.
    """
    graph = model.graph
    found: dict[Hashable, list[ir.Node]] = {}
    for node in graph:
        if is_node(node, "MatMulNBits", DOMAIN) and _own_weights(node):
            kinds = tuple(
                sorted((name, one.value) for name, one in node.attributes.items() if name != "N")
            )
            stored = tuple((one.dtype, len(one.shape or ())) for one in node.inputs[1:] if one)
            key = (id(node.inputs[0]), kinds, stored)
            found.setdefault(key, []).append(node)
    gone = 0
    for nodes in found.values():
        if len(nodes) > 1:
            _merge(graph, nodes)
            gone += len(nodes) - 1
    return _done(model, gone)


def pack_projections(model: ir.Model) -> int:
    """Let attention read queries, keys and values from one tensor; how often it does then.

    Their product makes the three side by side, which were only cut for an operator that takes them
    whole (onnxruntime, docs/ContribOperators.md).
    """
    packed = 0
    for node in model.graph:
        if not is_node(node, "GroupQueryAttention", DOMAIN):
            continue
        parts = node.inputs[:3]
        split = None if parts[0] is None else parts[0].producer()
        if not is_node(split, "Split") or tuple(split.outputs) != tuple(parts):
            continue
        if split.attributes.get_int("axis", 0) not in (-1, 2):
            continue
        if any(len(part.uses()) > 1 or part.is_graph_output() for part in split.outputs):
            continue
        node.replace_input_with(0, split.inputs[0])
        node.replace_input_with(1, None)
        node.replace_input_with(2, None)
        packed += 1
    return _done(model, packed)


def _merge(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    first = nodes[0]
    name = first.name or first.outputs[0].name
    sizes = [node.attributes.get_int("N", 0) for node in nodes]
    weights = [
        _joined(graph, [node.inputs[at] for node in nodes]) for at in range(1, len(first.inputs))
    ]
    product = ir.node(
        "MatMulNBits",
        [first.inputs[0], *weights],
        {**first.attributes, "N": sum(sizes)},
        domain=DOMAIN,
        name=f"{name}/merged",
    )
    product.outputs[0].name = f"{name}/merged/output"
    lengths = ir.node("Constant", [], {"value_ints": sizes}, name=f"{name}/sizes")
    lengths.outputs[0].name = f"{name}/sizes/output"
    split = ir.node(
        "Split",
        [product.outputs[0], lengths.outputs[0]],
        {"axis": -1},
        num_outputs=len(nodes),
        name=f"{name}/split",
    )
    graph.insert_before(first, [product, lengths, split])
    for node, part in zip(nodes, split.outputs, strict=True):
        take_over(node.outputs[0], part)


def _joined(graph: ir.Graph, parts: Sequence[ir.Value | None]) -> ir.Value:
    """Weights of several products as those of one: their rows come first in each of them."""
    arrays = []
    for part in parts:
        assert part is not None
        assert part.const_value is not None
        arrays.append(part.const_value.numpy())
    first = parts[0]
    assert first is not None
    return store(graph, f"{first.name}/merged", np.concatenate(arrays))


def _alike(parts: Sequence[ir.Value | None], ranks: Mapping[str, int]) -> bool:
    """Whether tensors are added of which none is spread over the other, as a bias would be."""
    single = set()
    for one in parts:
        if one is None or one.const_value is not None or ranks.get(one.name or "") != 3:
            return False
        if one.shape is not None:
            single.add(tuple(size == 1 for size in one.shape))
    return len(single) < 2


def _own_weights(node: ir.Node) -> bool:
    """Whether a product has stored weights that are nobody else's, and neither order nor bias."""
    return len(node.inputs) in _PLAIN and all(
        one is not None and one.is_initializer() and len(one.uses()) == 1 for one in node.inputs[1:]
    )


def _normalised(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """What a node normalises by its mean square along the last axis, and its scale."""
    if not is_node(node, "RMSNormalization") or node.attributes.get_int("axis", -1) != -1:
        return None, None
    value, scale = node.inputs
    if scale is None or scale.const_value is None or len(scale.const_value.shape) != 1:
        return None, None
    return value, scale


def _done(model: ir.Model, changed: int) -> int:
    """Clean up after so many changes."""
    if changed:
        model.graph.opset_imports[DOMAIN] = 1
        RemoveUnusedNodesPass()(model)
    return changed
