"""graph/onnx_nodes.py: what nodes hold and read, graphs inside them included."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from edgekit.graph.onnx_nodes import all_nodes, inner_graphs, inner_reads, reads

FLOAT = helper.make_tensor_value_info


def branching() -> onnx.NodeProto:
    """An If whose branches hold another If, whose branches read ``outer``."""

    def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(
            list(nodes), "branch", [], [FLOAT(nodes[-1].output[0], TensorProto.FLOAT, ["n"])]
        )

    deep = branch(helper.make_node("Neg", ["outer"], ["deep"], name="deep"))
    middle = branch(
        helper.make_node("If", ["other"], ["out"], name="inner", then_branch=deep, else_branch=deep)
    )
    return helper.make_node("If", ["c", ""], ["y"], name="if", then_branch=middle)


def test_graphs_that_a_node_holds() -> None:
    """Its own alone, and none for a node without."""
    assert [graph.name for graph in inner_graphs(branching())] == ["branch"]
    assert list(inner_graphs(helper.make_node("Neg", ["x"], ["y"]))) == []


def test_nodes_at_every_depth() -> None:
    """Each stands before those inside it."""
    assert [node.name for node in all_nodes([branching()])] == ["if", "inner", "deep", "deep"]


def test_reads_at_every_depth() -> None:
    """Inputs that were left out are no reads; what the graphs inside read counts."""
    node = branching()
    assert set(reads(node)) == {"c", "other", "outer", "deep", "out"}
    assert set(inner_reads(node)) == {"other", "outer", "deep", "out"}
