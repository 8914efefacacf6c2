"""Fewer, larger nodes for ONNX Runtime, whose answers stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.graph.decoders.fusing import fuse_norms, merge_products
from edgekit.runtime.engines.onnxruntime import import_onnxruntime

FLOAT = TensorProto.FLOAT
HIDDEN = 64
ROWS = ["batch", "sequence", HIDDEN]


def model(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], inputs: list, outputs: list[str]
) -> onnx.ModelProto:
    """A graph over ``[batch, sequence, HIDDEN]``."""
    given = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs]
    made = [helper.make_tensor_value_info(name, FLOAT, [*ROWS[:2], None]) for name in outputs]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return helper.make_model(
        helper.make_graph(nodes, "tiny", given, made, stored),
        opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)],
        ir_version=11,
    )


def answers(graph: onnx.ModelProto) -> list[np.ndarray]:
    """What a graph answers to the same random numbers."""
    random = np.random.default_rng(3)
    ort = import_onnxruntime()
    settings = ort.SessionOptions()
    # Its own fusions would hide what is left.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(graph.SerializeToString(), settings)
    sizes = {"batch": 2, "sequence": 3}
    feeds = {
        value.name: random.standard_normal([sizes.get(one, one) for one in value.shape])
        .astype(np.float32)
        for value in session.get_inputs()
    }  # fmt: skip
    found: list[np.ndarray] = session.run(None, feeds)
    return found


def changed(graph: onnx.ModelProto, change: object, *, times: int) -> Counter[str]:
    """The operators after a change that was made so often, and left the answers alone."""
    parsed = ir.serde.deserialize_model(graph)
    assert change(parsed) == times  # type: ignore[operator]
    after = ir.serde.serialize_model(parsed)
    onnx.checker.check_model(after)
    for got, want in zip(answers(after), answers(graph), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return Counter(node.op_type for node in after.graph.node)


def residual(
    *, second: list[str | int] | np.ndarray = ROWS, told: bool = False, axis: int = -1
) -> onnx.ModelProto:
    """x + y, normalised by its mean square, and the sum itself, which goes on."""
    random = np.random.default_rng(0)
    weights = {"scale": random.standard_normal(HIDDEN).astype(np.float32)}
    inputs: list = [("x", ROWS)]
    if isinstance(second, np.ndarray):
        weights["y"] = second
    else:
        inputs.append(("y", second))
    nodes = [
        helper.make_node("Add", ["x", "y"], ["sum"]),
        helper.make_node("RMSNormalization", ["sum", "scale"], ["n"], axis=axis, epsilon=1e-3),
        helper.make_node("Neg", ["sum"], ["went on"]),
    ]
    return model(nodes, weights, inputs, ["n", "went on", *(["sum"] if told else [])])


def test_sum_and_norm_are_one_node() -> None:
    """The sum comes out of the same node, for those that go on with it."""
    kinds = changed(residual(), fuse_norms, times=1)
    assert kinds == {"SkipSimplifiedLayerNormalization": 1, "Neg": 1}


@pytest.mark.parametrize(
    "unlike",
    [
        {"told": True},
        {"second": np.ones(HIDDEN, np.float32)},
        {"second": np.ones((1, 1, HIDDEN), np.float32)},
        {"second": [1, "sequence", HIDDEN]},
        {"second": ["sequence", HIDDEN]},
    ],
    ids=["an answer", "a bias", "a bias of three axes", "one row for all", "two axes"],
)
def test_other_sums_stay(unlike: dict) -> None:
    """A sum that is an answer, and one that spreads a tensor over the other."""
    kinds = changed(residual(**unlike), fuse_norms, times=0)
    assert kinds == {"Add": 1, "RMSNormalization": 1, "Neg": 1}


def test_sums_of_sums_are_followed() -> None:
    """Each layer's norm takes the sum that the one before it has handed on."""
    scale = {"s": np.ones(HIDDEN, np.float32)}
    nodes, state = [], "x"
    for at in range(3):
        nodes += [
            helper.make_node("Add", [state, "y"], [f"h{at}"]),
            helper.make_node("RMSNormalization", [f"h{at}", "s"], [f"n{at}"], axis=-1),
            helper.make_node("Mul", [f"h{at}", f"n{at}"], [f"m{at}"]),
        ]
        state = f"m{at}"
    graph = model(nodes, scale, [("x", ROWS), ("y", ROWS)], ["m2", "n1"])
    kinds = changed(graph, fuse_norms, times=3)
    assert kinds == {"SkipSimplifiedLayerNormalization": 3, "Mul": 3}


def product(
    name: str, bits: int, rows: int, *, zeros: bool, block: int = 32, weights: str = ""
) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    """x times a matrix whose weights are stored in blocks of few bits."""
    random = np.random.default_rng(len(name) * 7 + rows)
    blocks = HIDDEN // block
    held = weights or name
    stored = {
        f"{held}.w": random.integers(0, 256, (rows, blocks, block * bits // 8)).astype(np.uint8),
        f"{held}.s": random.uniform(0.01, 0.1, (rows, blocks)).astype(np.float32),
    }
    if zeros:
        packed = -(-blocks * bits // 8)
        stored[f"{held}.z"] = random.integers(0, 256, (rows, packed)).astype(np.uint8)
    node = helper.make_node(
        "MatMulNBits", ["x", *stored], [name], domain="com.microsoft",
        K=HIDDEN, N=rows, bits=bits, block_size=block, accuracy_level=1,
    )  # fmt: skip
    return node, stored


@pytest.mark.parametrize("block", [16, 32, 64])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_products_of_one_tensor_are_one(bits: int, zeros: bool, block: int) -> None:
    """Queries, keys and values have rows of their own in one matrix."""
    parts = [
        product(name, bits, rows, zeros=zeros, block=block)
        for name, rows in (("q", 48), ("kk", 16), ("vvv", 24))
    ]
    stored = {name: array for _, own in parts for name, array in own.items()}
    graph = model([node for node, _ in parts], stored, [("x", ROWS)], ["q", "kk", "vvv"])
    kinds = changed(graph, merge_products, times=2)
    assert kinds == {"MatMulNBits": 1, "Constant": 1, "Split": 1}


def _of_other_blocks() -> list[tuple[onnx.NodeProto, dict[str, np.ndarray]]]:
    return [product("a", 4, 16, zeros=True), product("b", 4, 16, zeros=True, block=16)]


def _of_other_bits() -> list[tuple[onnx.NodeProto, dict[str, np.ndarray]]]:
    return [product("a", 4, 16, zeros=False), product("b", 8, 16, zeros=False)]


def _with_zeros_and_without() -> list[tuple[onnx.NodeProto, dict[str, np.ndarray]]]:
    return [product("a", 4, 16, zeros=True), product("b", 4, 16, zeros=False)]


def _of_shared_weights() -> list[tuple[onnx.NodeProto, dict[str, np.ndarray]]]:
    return [product(name, 4, 16, zeros=True, weights="both") for name in ("a", "b")]


def _with_bias() -> list[tuple[onnx.NodeProto, dict[str, np.ndarray]]]:
    parts = []
    for name in ("a", "b"):
        node, stored = product(name, 4, 16, zeros=True)
        node.input.extend(["", f"{name}.b"])
        parts.append((node, {**stored, f"{name}.b": np.arange(16, dtype=np.float32)}))
    return parts


@pytest.mark.parametrize(
    "parts",
    [
        _of_other_blocks, _of_other_bits, _with_zeros_and_without, _of_shared_weights, _with_bias,
    ],
)  # fmt: skip
def test_other_products_stay(parts: object) -> None:
    """Those that are stored differently, have a bias, or share their weights with another."""
    made = parts()  # type: ignore[operator]
    stored = {name: array for _, own in made for name, array in own.items()}
    graph = model([node for node, _ in made], stored, [("x", ROWS)], ["a", "b"])
    assert changed(graph, merge_products, times=0) == {"MatMulNBits": 2}


def test_weights_that_went_are_not_stored() -> None:
    """What was put together is in the file once."""
    parts = [product(name, 4, 16, zeros=True) for name in ("q", "kk")]
    stored = {name: array for _, own in parts for name, array in own.items()}
    parsed = ir.serde.deserialize_model(
        model([node for node, _ in parts], stored, [("x", ROWS)], ["q", "kk"])
    )
    merge_products(parsed)
    found = ir.serde.serialize_model(parsed).graph.initializer
    assert sum(len(numpy_helper.to_array(one).ravel()) for one in found) == sum(
        array.size for array in stored.values()
    )
