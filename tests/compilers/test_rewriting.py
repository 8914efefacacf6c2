"""compilers/rewriting.py: changes of an ONNX graph that leave it valid."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.compilers.rewriting import fix_sizes, halve, strip_traces
from edgekit.core.errors import CompileError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.graph.onnx_half import sort_nodes
from edgekit.runtime.engines.onnxruntime import import_onnxruntime
from tests.compilers.conftest import attention_model, conv_model
from tests.onnx_models import linear, model

FLOAT = helper.make_tensor_value_info
LINEAR = Component(
    "onnx",
    ("model.onnx",),
    (TensorSpec("x", "float32", ("batch", 4)),),
    (TensorSpec("y", "float32", ("batch", 3)),),
)


def graph_of(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    """A graph from ``x`` to ``y``."""
    ends = [FLOAT(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    return helper.make_graph(list(nodes), "g", ends[:1], ends[1:])


def names(graph: onnx.GraphProto) -> list[str]:
    """The nodes in their order."""
    return [node.name for node in graph.node]


def test_producers_come_before_their_readers() -> None:
    """A node that was appended moves in front of the one that reads it."""
    graph = graph_of(
        helper.make_node("Neg", ["b"], ["y"], name="last"),
        helper.make_node("Abs", ["x"], ["a"], name="first"),
        helper.make_node("Exp", ["a"], ["b"], name="middle"),
    )
    sort_nodes(graph)
    assert names(graph) == ["first", "middle", "last"]


def test_sorted_nodes_stay_where_they_are() -> None:
    """Independent nodes keep their order."""
    graph = graph_of(
        helper.make_node("Neg", ["x"], ["b"], name="one"),
        helper.make_node("Abs", ["x"], ["a"], name="two"),
        helper.make_node("Add", ["a", "b"], ["y"], name="three"),
    )
    sort_nodes(graph)
    assert names(graph) == ["one", "two", "three"]


def test_reads_of_inner_graphs_count() -> None:
    """A branch that reads an outer value waits for it, though no input says so."""
    branch = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["inner"])],
        "branch",
        [],
        [FLOAT("inner", TensorProto.FLOAT, ["n"])],
    )
    graph = graph_of(
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch),
        helper.make_node("Abs", ["x"], ["a"], name="abs"),
    )
    sort_nodes(graph)
    assert names(graph) == ["abs", "if"]


def test_half_precision_is_valid_onnx() -> None:
    """The converter's result passes onnx.checker, with float32 at both ends."""
    import_onnxruntime()
    for made in (conv_model(), attention_model()):
        halved = halve(made[0], large=False)
        onnx.checker.check_model(halved, full_check=True)
        kinds = {value.type.tensor_type.elem_type for value in halved.graph.output}
        assert kinds == {TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT16 in {item.data_type for item in halved.graph.initializer}


def test_half_precision_without_shape_inference() -> None:
    """A model too large for one message is converted without inferred shapes, and stays valid."""
    import_onnxruntime()
    halved = halve(conv_model()[0], large=True)
    onnx.checker.check_model(halved)


def test_sizes_are_fixed_everywhere() -> None:
    """Inputs, outputs and intermediate values take the size."""
    made, part = conv_model()
    made.graph.value_info.append(FLOAT("a", TensorProto.FLOAT, ["batch", 16, 12, 12]))
    fix_sizes(made, part, {"batch": 3})
    values = (*made.graph.input, *made.graph.output, *made.graph.value_info)
    assert {value.type.tensor_type.shape.dim[0].dim_value for value in values} == {3}


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Sizes, names, and "" for an axis of neither."""
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("dims", [(None, 4), ("rows", 4), None])
def test_sizes_go_by_input_and_axis(dims: tuple[int | str | None, ...] | None) -> None:
    """The graph may have no name for an axis, another one, or no shape at all."""
    made = linear(dims)
    fix_sizes(made, LINEAR, {"batch": 2})
    assert shape_of(made.graph.input[0])[0] == 2
    assert shape_of(made.graph.output[0]) == [2, 3]


def test_names_that_stand_for_several_sizes() -> None:
    """A value inside is of none of them."""
    made = model(
        [helper.make_node("Concat", ["a", "b"], ["y"], axis=0)],
        {"a": (TensorProto.FLOAT, ("n", "m")), "b": (TensorProto.FLOAT, ("n", "m"))},
        {"y": (TensorProto.FLOAT, ("n", "m"))},
    )
    specs = [TensorSpec(name, "float32", (f"{name}_rows", "m")) for name in "ab"]
    part = Component("onnx", ("model.onnx",), tuple(specs), ())
    fix_sizes(made, part, {"a_rows": 2, "b_rows": 3, "m": 4})
    assert [shape_of(value) for value in made.graph.input] == [[2, 4], [3, 4]]
    assert shape_of(made.graph.output[0]) == ["n", 4]


@pytest.mark.parametrize("other", [TensorSpec("z", "float32", ("batch", 4)),
                                   TensorSpec("x", "float32", ("batch", 4, 4))])  # fmt: skip
def test_sizes_that_cannot_be_fixed(other: TensorSpec) -> None:
    """A manifest must not say what its graph does not."""
    with pytest.raises(CompileError, match="no size of it can be fixed"):
        fix_sizes(linear(), replace(LINEAR, inputs=(other,)), {"batch": 2})


def test_traces_are_removed_from_inner_graphs_too() -> None:
    """Notes on nodes, values and graphs go, wherever they are."""
    inner = helper.make_node("Neg", ["x"], ["inner"], doc_string="/home/someone")
    branch = helper.make_graph([inner], "b", [], [FLOAT("inner", TensorProto.FLOAT, ["n"])])
    graph = graph_of(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    graph.doc_string = "/home/someone"
    graph.input[0].doc_string = "/home/someone"
    made = helper.make_model(graph, doc_string="/home/someone")
    made.metadata_props.add(key="made", value="/home/someone")
    strip_traces(made)
    assert b"/home/someone" not in made.SerializeToString()
