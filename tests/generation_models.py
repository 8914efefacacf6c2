"""Tiny generative ONNX graphs made in code: the shapes and names of real ones, random weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


class _Graph:
    """Nodes and weights as they are written down."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, value: object, dtype: str = "int64") -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def weight(self, name: str, *shape: int, scale: float = 1.0) -> str:
        values = self.rng.standard_normal(shape).astype(np.float32) * scale
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def op(self, kind: str, inputs: list[str], output: str | list[str], **attributes) -> str:
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def model(self, inputs, outputs) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "tiny", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
        onnx.checker.check_model(model)
        return model


def _past(part: str, heads: int, size: int, length: str, kind: str = "past_key_values") -> list:
    return [
        helper.make_tensor_value_info(
            f"{kind}.{part}.{what}", FLOAT, ["batch", heads, length, size]
        )
        for what in ("key", "value")
    ]


def decoder(
    *, vocabulary: int = 64, hidden: int = 16, layers: int = 2, context: int = 64, seed: int = 0
) -> onnx.ModelProto:
    """A decoder-only model with two heads that share one of keys and values."""
    graph = _Graph(seed)
    size = hidden // 2
    embedded = graph.op(
        "Gather", [graph.weight("embedding", vocabulary, hidden), "input_ids"], "embedded"
    )
    placed = graph.op(
        "Gather", [graph.weight("places", context, hidden, scale=0.5), "position_ids"], "placed"
    )
    state = graph.op("Add", [embedded, placed], "h")
    mask = _mask(graph)
    for layer in range(layers):
        state = _attend(graph, f"{layer}", state, state, hidden, size, 1, mask, str(layer))
    graph.op("MatMul", [state, graph.weight("head", hidden, vocabulary)], "logits")
    inputs = [
        helper.make_tensor_value_info("input_ids", INT, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", INT, ["batch", "total"]),
        helper.make_tensor_value_info("position_ids", INT, ["batch", "sequence"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", FLOAT, ["batch", "sequence", vocabulary])]
    for layer in range(layers):
        inputs += _past(f"{layer}", 1, size, "past")
        outputs += _past(f"{layer}", 1, size, "total", "present")
    return graph.model(inputs, outputs)


def _mask(graph: _Graph) -> str:
    """0 where a token may look, a large negative number elsewhere: [batch, 1, sequence, total]."""
    one = graph.constant("one", 1)
    zero = graph.constant("zero", 0)
    graph.op("Shape", ["input_ids"], "sequence", start=1, end=2)
    graph.op("Shape", ["attention_mask"], "total", start=1, end=2)
    graph.op("Squeeze", ["sequence"], "sequence.0")
    graph.op("Squeeze", ["total"], "total.0")
    graph.op("Sub", ["total.0", "sequence.0"], "before")
    graph.op("Range", ["before", "total.0", one], "row")
    graph.op("Range", [zero, "total.0", one], "column")
    graph.op("Unsqueeze", ["row", graph.constant("axis", [1])], "rows")
    graph.op("LessOrEqual", ["column", "rows"], "causal")
    graph.op("Cast", ["attention_mask"], "real", to=TensorProto.BOOL)
    graph.op("Unsqueeze", ["real", graph.constant("axes", [1, 2])], "real.4")
    graph.op("And", ["causal", "real.4"], "seen")
    return graph.op(
        "Where",
        ["seen", graph.constant("let", 0.0, "float32"), graph.constant("hide", -1e9, "float32")],
        "mask",
    )


def _attend(graph, name, state, other, hidden, size, heads, mask, cache) -> str:
    """h + attention(h): with a cache that the graph makes longer."""

    def project(what: str, source: str, width: int) -> str:
        weight = graph.weight(f"{name}.{what}.weight", hidden, width, scale=0.7)
        return graph.op("MatMul", [source, weight], f"{name}.{what}")

    query = project("query", state, hidden)
    key = project("key", other, heads * size)
    value = project("value", other, heads * size)
    past = [f"past_key_values.{cache}.key", f"past_key_values.{cache}.value"]
    present = [f"present.{cache}.key", f"present.{cache}.value"]
    attended = graph.op(
        "Attention", [query, key, value, mask, *past], [f"{name}.attended", *present],
        q_num_heads=hidden // size, kv_num_heads=heads,
    )  # fmt: skip
    return graph.op("Add", [state, attended], f"{name}.out")
