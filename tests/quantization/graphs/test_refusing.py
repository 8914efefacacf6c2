"""graphs/refusing.py: every operator with constant weights is a group's, or has a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.quantization.graphs.grouping import Grouping, find_groups
from edgekit.quantization.graphs.reading import read_graph
from tests.quantization.networks import Weights

make = helper.make_node
INFO = helper.make_tensor_value_info
FLOAT = onnx.TensorProto.FLOAT


def grouping_of(
    nodes: list[onnx.NodeProto],
    folder: Path,
    weights: dict[str, tuple[int, ...]],
    shape: tuple[int | str, ...] = ("batch", 8),
    kind: type[np.generic] = np.float32,
) -> Grouping:
    """The groups of a graph from x to y whose weights have these shapes."""
    held = Weights()
    for name, dims in weights.items():
        held.put(name, np.ones(dims, dtype=kind))
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes, "small", [INFO("x", number, shape)], [INFO("y", number, None)], held.held
    )
    domains = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), str(path))
    return find_groups(read_graph(path, folder / "work"))


@pytest.mark.parametrize(
    ("node", "weights", "shape", "reason"),
    [
        (make("Gemm", ["x", "w"], ["y"], alpha=0.5), {"w": (8, 8)}, ("batch", 8), "alpha = 0.5"),
        (
            make("Gemm", ["x", "w", "b"], ["y"], beta=2.0),
            {"w": (8, 8), "b": (8,)},
            ("batch", 8),
            "beta = 2",
        ),
        (make("Gemm", ["x", "w"], ["y"], transA=1), {"w": (8, 8)}, (8, "batch"), "activations"),
        (make("MatMul", ["x", "w"], ["y"]), {"w": (3, 8, 8)}, ("batch", 8), "3 axes"),
        (make("MatMul", ["w", "x"], ["y"]), {"w": (4, 8)}, (8, "batch"), "on the left"),
        (
            make("ConvTranspose", ["x", "w"], ["y"]),
            {"w": (8, 4, 3)},
            (1, 8, "n"),
            "transposed convolution",
        ),
        (
            make("LSTM", ["x", "w", "r"], ["y"], hidden_size=4),
            {"w": (1, 16, 8), "r": (1, 16, 4)},
            ("n", 1, 8),
            "recurrent",
        ),
        (
            make("GRU", ["x", "w", "r"], ["y"], hidden_size=4),
            {"w": (1, 12, 8), "r": (1, 12, 4)},
            ("n", 1, 8),
            "recurrent",
        ),
        (make("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik"), {"w": (8, 8)}, (2, 8), "Einsum"),
        (
            make("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft"),
            {"w": (8, 8)},
            ("batch", 8),
            "com.microsoft",
        ),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_reasons(
    node: onnx.NodeProto,
    weights: dict[str, tuple[int, ...]],
    shape: tuple[int | str, ...],
    reason: str,
    tmp_path: Path,
) -> None:
    """What no 8-bit operator does is kept, by name and with what is in the way."""
    node.name = "/refused"
    found = grouping_of([node], tmp_path, weights, shape)
    assert found.groups == ()
    assert [one.node for one in found.kept] == ["/refused"]
    assert reason in found.kept[0].reason


def test_a_weight_that_is_computed(tmp_path: Path) -> None:
    """From constants alone, but while the graph runs: the node that does so is named."""
    nodes = [
        make("Mul", ["w", "s"], ["scaled"], name="/scale"),
        make("MatMul", ["x", "scaled"], ["y"], name="/refused"),
    ]
    found = grouping_of(nodes, tmp_path, {"w": (8, 8), "s": (8,)})
    assert "computed by /scale (Mul)" in found.kept[0].reason


def test_a_weight_in_other_numbers(tmp_path: Path) -> None:
    """What is not float32 is not touched."""
    node = make("MatMul", ["x", "w"], ["y"], name="/refused")
    found = grouping_of([node], tmp_path, {"w": (8, 8)}, kind=np.float64)
    assert [one.reason for one in found.kept] == ["its weight w is not float32"]


def test_products_inside_a_branch(tmp_path: Path) -> None:
    """The node that holds the branch is told."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [make("MatMul", ["x", "w"], [f"{name}.out"])],
            name,
            [],
            [INFO(f"{name}.out", FLOAT, None)],
        )
        for name in ("then", "else")
    }
    nodes = [
        make("ReduceSum", ["x"], ["sum"], keepdims=0),
        make("Greater", ["sum", "s"], ["much"]),
        make("If", ["much"], ["y"], name="/refused", **branches),
    ]
    found = grouping_of(nodes, tmp_path, {"w": (8, 8), "s": (1,)})
    assert [one.node for one in found.kept] == ["/refused"]
    assert "inside a graph of its own" in found.kept[0].reason


def test_what_has_no_constant_weights_needs_no_reason(tmp_path: Path) -> None:
    """Products of activations, of constants alone, and an attention are no weights' products."""
    nodes = [
        make("MatMul", ["w", "v"], ["constant"], name="/constants"),
        make("Transpose", ["x"], ["turned"], perm=[1, 0]),
        make("MatMul", ["x", "turned"], ["scores"], name="/scores"),
        make("MatMul", ["scores", "x"], ["a"], name="/values"),
        make("Add", ["a", "constant"], ["y"]),
    ]
    found = grouping_of(nodes, tmp_path, {"w": (1, 8), "v": (8, 8)})
    assert (found.groups, found.kept) == ((), ())
