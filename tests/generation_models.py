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
        self.known: list[onnx.ValueInfoProto] = []

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
        graph = helper.make_graph(
            self.nodes, "tiny", inputs, outputs, self.weights, None, self.known
        )
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
    return graph.model(*_ports(vocabulary, layers, 1, size))


def _mask(graph: _Graph, window: int | None = None) -> str:
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
    causal = graph.op("LessOrEqual", ["column", "rows"], "causal")
    if window is not None:
        graph.op("Sub", ["rows", "column"], "distance")
        graph.op("Less", ["distance", graph.constant("window", window)], "near")
        causal = graph.op("And", [causal, "near"], "causal.near")
    graph.op("Cast", ["attention_mask"], "real", to=TensorProto.BOOL)
    graph.op("Unsqueeze", ["real", graph.constant("axes", [1, 2])], "real.4")
    graph.op("And", [causal, "real.4"], "seen")
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


def exported_decoder(
    *,
    shared: int,
    rotated: bool,
    normed: bool = False,
    flat: bool = False,
    size: int = 8,
    turned: int | None = None,
    window: int | None = None,
    vocabulary: int = 64,
    context: int = 64,
) -> onnx.ModelProto:
    """A decoder with four heads, in the form in which edgekit exports attention over a cache.

    The cache has `shared` heads, whose queries are rows of one head. `normed` queries and keys are
    normalised before they are rotated. Where it is `flat`, the attention's answers are a matrix.
    Of a head so many numbers are `turned`, by default all; a token sees so many as a `window` says.
    """
    layers, heads, hidden = 2, 4, 4 * size
    graph = _Graph(1)
    # Numbers of one size, however wide it is.
    narrow = (32 / hidden) ** 0.5
    state = graph.op(
        "Gather", [graph.weight("embedding", vocabulary, hidden), "input_ids"], "embedded"
    )
    causal, groups = _mask(graph, window), heads // shared
    turned = turned or size
    for name, value in (("any", [-1]), ("four", [size]), ("all", [heads]), ("own", [shared]),
                        ("wide", [hidden])):  # fmt: skip
        graph.constant(name, value)
    graph.op("Shape", ["past_key_values.0.value"], "rows.batch", start=0, end=1)
    # The length of what is kept is read off a cache, as torch's exporter does.
    graph.op("Shape", ["past_key_values.0.key"], "past", start=2, end=3)
    graph.op("Add", ["past", "sequence"], "past.total")
    graph.op("Concat", ["rows.batch", graph.constant("ones", [1]), "sequence", "past.total"],
             "mask.sizes", axis=0)  # fmt: skip
    mask = graph.op("Expand", [causal, "mask.sizes"], "mask.all")
    if groups > 1:
        times = graph.constant("times", [1, 1, groups, 1])
        mask = graph.op("Tile", [mask, times], "mask.packed")
    for name, own in (("query", "all"), ("key", "own")):
        graph.op("Concat", ["rows.batch", "sequence", own, "four"], f"{name}.sizes", axis=0)
    if rotated:
        graph.op("Gather", [graph.weight("angles", context, turned // 2), "position_ids"], "angle")
        graph.op("Concat", ["rows.batch", "sequence", graph.constant("turned", [turned // 2])],
                 "angle.sizes", axis=0)  # fmt: skip
        cos, sin = (
            graph.op("Expand", [graph.op(kind, ["angle"], name), "angle.sizes"], f"{name}.all")
            for kind, name in (("Cos", "cos"), ("Sin", "sin"))
        )
    else:
        placed = graph.weight("places", context, hidden, scale=0.5)
        state = graph.op("Add", [state, graph.op("Gather", [placed, "position_ids"], "placed")],
                         "h")  # fmt: skip
    for layer in range(layers):

        def headed(
            what: str, own: int, *, plain: bool = False, layer: int = layer, source: str = state
        ) -> str:
            name = f"{layer}.{what}"
            weight = graph.weight(f"{name}.weight", hidden, own * size, scale=0.3 * narrow)
            made = graph.op("MatMul", [source, weight], name)
            sizes = "query.sizes" if own == heads and what == "query" else "key.sizes"
            made = graph.op("Reshape", [made, sizes], f"{name}.heads")
            if normed and not plain:
                scale = graph.weight(f"{name}.norm", size)
                made = graph.op("RMSNormalization", [made, scale], f"{name}.normed", axis=-1)
            made = graph.op("Transpose", [made], f"{name}.turned", perm=[0, 2, 1, 3])
            if rotated and not plain:
                made = graph.op(
                    "RotaryEmbedding", [made, cos, sin], f"{name}.rotated", num_heads=own,
                    rotary_embedding_dim=0 if turned == size else turned,
                )  # fmt: skip
            shape = ["batch", own, "sequence", size]
            graph.known.append(helper.make_tensor_value_info(made, FLOAT, shape))
            return made

        query = headed("query", heads)
        kept = [
            graph.op("Concat", [f"past_key_values.{layer}.{what}", made],
                     f"present.{layer}.{what}", axis=-2)
            for what, made in (("key", headed("key", shared)),
                               ("value", headed("value", shared, plain=True)))
        ]  # fmt: skip
        if groups > 1:
            graph.op("Concat", ["rows.batch", "own", "any", "four"], f"{layer}.packed", axis=0)
            query = graph.op("Reshape", [query, f"{layer}.packed"], f"{layer}.rows")
        found = graph.op("Attention", [query, *kept, mask], f"{layer}.attended", scale=0.4)
        if groups > 1:
            graph.op("Concat", ["rows.batch", "all", "any", "four"], f"{layer}.apart", axis=0)
            found = graph.op("Reshape", [found, f"{layer}.apart"], f"{layer}.unpacked")
        found = graph.op("Transpose", [found], f"{layer}.back", perm=[0, 2, 1, 3])
        sizes = ["any", "wide"] if flat else ["rows.batch", "sequence", "wide"]
        graph.op("Concat", sizes, f"{layer}.whole.sizes", axis=0)
        found = graph.op("Reshape", [found, f"{layer}.whole.sizes"], f"{layer}.whole")
        weight = graph.weight(f"{layer}.out.weight", hidden, hidden, scale=0.3 * narrow)
        found = graph.op("MatMul", [found, weight], f"{layer}.out")
        if flat:
            graph.op("Concat", ["rows.batch", "sequence", "wide"], f"{layer}.sizes", axis=0)
            found = graph.op("Reshape", [found, f"{layer}.sizes"], f"{layer}.out.rows")
        state = graph.op("Add", [state, found], f"{layer}.sum")
    graph.op("MatMul", [state, graph.weight("head", hidden, vocabulary, scale=narrow)], "logits")
    return graph.model(*_ports(vocabulary, layers, shared, size))


def _ports(vocabulary: int, layers: int, heads: int, size: int) -> tuple[list, list]:
    """Inputs and outputs of a decoder."""
    inputs = [
        helper.make_tensor_value_info("input_ids", INT, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", INT, ["batch", "total"]),
        helper.make_tensor_value_info("position_ids", INT, ["batch", "sequence"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", FLOAT, ["batch", "sequence", vocabulary])]
    for layer in range(layers):
        inputs += _past(f"{layer}", heads, size, "past")
        outputs += _past(f"{layer}", heads, size, "total", "present")
    return inputs, outputs
