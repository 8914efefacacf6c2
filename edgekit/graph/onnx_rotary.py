"""Repair of rotary embeddings whose cos/sin caches torch.onnx left at batch 1."""

from __future__ import annotations

import onnx_ir as ir


def expand_rotary_caches(model: ir.Model) -> int:
    """Expand the caches of every RotaryEmbedding node to its batch; the number of nodes repaired.

    The operator (opset 23, without position ids) wants `cos_cache` and `sin_cache` as
    `[batch, sequence, half]`. onnxscript's fusion gives `[1, sequence, half]`, which
    onnx.checker does not see and which fails, or reads beyond the cache, from batch 2 on.
    """
    graph = model.graph
    expanded: dict[tuple[int, int], ir.Value] = {}
    repaired = 0
    for node in list(graph):
        if node.op_type != "RotaryEmbedding" or node.domain not in ("", "ai.onnx"):
            continue
        has_positions = len(node.inputs) > 3 and node.inputs[3] is not None
        if has_positions:
            continue
        x = node.inputs[0]
        assert x is not None
        changed = False
        for position in (1, 2):
            cache = node.inputs[position]
            if cache is None or not _needs_batch(cache, x):
                continue
            batch = _dim_key(x)
            key = (id(cache), batch)
            if key not in expanded:
                expanded[key] = _expand(graph, node, x, cache)
            node.replace_input_with(position, expanded[key])
            changed = True
        repaired += changed
    return repaired


def _needs_batch(cache: ir.Value, x: ir.Value) -> bool:
    if cache.shape is None:
        return True
    if len(cache.shape) != 3 or x.shape is None:
        return len(cache.shape) == 3
    first, batch = cache.shape[0], x.shape[0]
    return first != batch


def _dim_key(x: ir.Value) -> int:
    """One key for all values of one batch, so that they share the expanded cache."""
    return hash(str(x.shape[0])) if x.shape is not None else id(x)


def _expand(graph: ir.Graph, before: ir.Node, x: ir.Value, cache: ir.Value) -> ir.Value:
    base = f"{before.name or 'rotary'}/{cache.name}"
    batch = ir.node("Shape", [x], {"start": 0, "end": 1}, name=f"{base}/Shape")
    ones = ir.node(
        "Constant", [], {"value": ir.tensor([1, 1], dtype=ir.DataType.INT64)}, name=f"{base}/Ones"
    )
    shape = ir.node(
        "Concat", [batch.outputs[0], ones.outputs[0]], {"axis": 0}, name=f"{base}/Concat"
    )
    expand = ir.node("Expand", [cache, shape.outputs[0]], name=f"{base}/Expand")
    for node, kind, dims in (
        (batch, ir.DataType.INT64, [1]),
        (ones, ir.DataType.INT64, [2]),
        (shape, ir.DataType.INT64, [3]),
    ):
        node.outputs[0].dtype, node.outputs[0].shape = kind, ir.Shape(dims)
    kind_of_cache = cache.dtype or x.dtype
    if kind_of_cache is not None:
        expand.outputs[0].dtype = kind_of_cache
    if x.shape is not None:
        expand.outputs[0].shape = ir.Shape([x.shape[0], None, None])
    graph.insert_before(before, [batch, ones, shape, expand])
    return expand.outputs[0]
