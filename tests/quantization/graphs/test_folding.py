"""graphs/folding.py: constants that nodes make, and copies of constants, become weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.core.manifest import Component, TensorSpec
from edgekit.quantization.graphs.grouping import find_groups
from edgekit.quantization.graphs.reading import Graph, read_graph
from tests.quantization.networks import Weights, model_of

make = helper.make_node
VALUES = np.arange(64, dtype=np.float32).reshape(8, 8)


def constant(name: str, **held: object) -> onnx.NodeProto:
    """A Constant node."""
    held = held or {"value": numpy_helper.from_array(VALUES, "inner")}
    return make("Constant", [], [name], name=f"/{name}", **held)


def graph_of(nodes: list[onnx.NodeProto], folder: Path, weights: Weights | None = None) -> Graph:
    """The graph from x to y, read."""
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 8)),),
        (TensorSpec("y", "float32", ("rows", "columns")),),
    )
    model = model_of(nodes, weights or Weights(), component)
    onnx.save(model, str(folder / "model.onnx"))
    return read_graph(folder / "model.onnx", folder / "work")


def test_a_constant_node_is_a_weight(tmp_path: Path) -> None:
    """Its product is a group like any other."""
    graph = graph_of([constant("w"), make("MatMul", ["x", "w"], ["y"], name="/p")], tmp_path)
    np.testing.assert_array_equal(graph.array("w"), VALUES)
    assert [node.op_type for node in graph.model.graph.node] == ["MatMul"]
    assert [group.name for group in find_groups(graph).groups] == ["p"]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({"value_float": 2.5}, np.float32(2.5)),
        ({"value_floats": [1.0, 2.0]}, np.array([1, 2], dtype=np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [1, 8]}, np.array([1, 8], dtype=np.int64)),
    ],
)
def test_numbers_of_every_kind(
    held: dict[str, object], expected: np.ndarray, tmp_path: Path
) -> None:
    """The type and the shape are those that the operator makes."""
    cast = make("Cast", ["c"], ["f"], to=1)
    graph = graph_of([constant("c", **held), cast, make("Add", ["x", "f"], ["y"])], tmp_path)
    found = graph.array("c")
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_copies_are_read_at_their_source(tmp_path: Path) -> None:
    """Identity of a weight, and of a copy of it, is gone: the two products share the weight."""
    weights = Weights()
    weights.add("w", 8, 8)
    nodes = [
        make("Identity", ["w"], ["v"]),
        make("Identity", ["v"], ["u"]),
        make("MatMul", ["x", "w"], ["a"], name="/one"),
        make("MatMul", ["a", "u"], ["y"], name="/two"),
    ]
    graph = graph_of(nodes, tmp_path, weights)
    assert [node.op_type for node in graph.model.graph.node] == ["MatMul", "MatMul"]
    assert [group.nodes for group in find_groups(graph).groups] == [("/one", "/two")]


def test_an_output_keeps_its_node(tmp_path: Path) -> None:
    """What leaves the graph is made by the node that made it before."""
    nodes = [constant("w"), make("Identity", ["w"], ["y"])]
    graph = graph_of(nodes, tmp_path)
    assert [node.op_type for node in graph.model.graph.node] == ["Identity"]


def test_inner_graphs_still_find_what_they_read(tmp_path: Path) -> None:
    """A branch reads the weight that was a node, and its copy stays a node."""
    info = helper.make_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [make(operator, ["x", weight], [f"{name}.out"])],
            name,
            [],
            [info(f"{name}.out", onnx.TensorProto.FLOAT, None)],
        )
        for name, operator, weight in (("then", "Add", "c"), ("else", "Sub", "copy"))
    }
    weights = Weights()
    weights.put("yes", np.array(True))
    nodes = [
        constant("c", value_float=1.0),
        make("Identity", ["c"], ["copy"], name="/copy"),
        make("If", ["yes"], ["y"], name="/if", **branches),
    ]
    graph = graph_of(nodes, tmp_path, weights)
    assert [node.op_type for node in graph.model.graph.node] == ["Identity", "If"]
    onnx.checker.check_model(str(graph.path), full_check=True)
    assert [node.name for node in graph.readers["c"]] == ["/copy", "/if"]


def test_what_no_output_hangs_on_is_no_product(tmp_path: Path) -> None:
    """Nothing would tell how its rounding changes an answer."""
    weights = Weights()
    weights.add("w", 8, 8)
    nodes = [
        make("MatMul", ["x", "w"], ["dead"], name="/dead/MatMul"),
        make("Neg", ["dead"], ["deader"], name="/deader"),
        make("MatMul", ["x", "w"], ["y"], name="/live/MatMul"),
    ]
    graph = graph_of(nodes, tmp_path, weights)
    assert [node.name for node in graph.model.graph.node] == ["/live/MatMul"]
    assert [group.nodes for group in find_groups(graph).groups] == [("/live/MatMul",)]
