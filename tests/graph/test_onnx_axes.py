"""Named dimensions of ONNX graphs."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.graph.onnx_axes import declared_shape, frozen_axes, name_axes, true_shape


def _value(name: str, *dims: int | str | None) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.FLOAT))


def _model(operator: str = "Relu") -> ir.Model:
    """x [s1, s2, 8] → operator → hidden [s1, s2, 8] → Relu → y [s1, 3, 8], m [s9, s2] unused."""
    x, mask = _value("x", "s1", "s2", 8), _value("m", "s9", "s2")
    hidden = ir.node(operator, [x])
    hidden.outputs[0].shape = ir.Shape(["s1", "4*s2", 8])
    last = ir.node("Relu", [hidden.outputs[0]])
    last.outputs[0].name = "y"
    last.outputs[0].shape = ir.Shape(["s1", 3, 8])
    graph = ir.Graph([x, mask], [last.outputs[0]], nodes=[hidden, last], opset_imports={"": 23})
    return ir.Model(graph, ir_version=10)


AXES = {"x": {0: "batch", 1: "sequence"}, "m": {0: "batch", 1: "sequence"}}
OUTPUTS = {"y": ("batch", "sequence", 8)}


def test_frozen_axis_is_found() -> None:
    """A number where a symbol was wanted."""
    model = _model()
    assert frozen_axes(model, AXES) == ()
    model.graph.inputs[0].shape = ir.Shape(["s1", 48, 8])
    (frozen,) = frozen_axes(model, AXES)
    assert (frozen.name, frozen.axis, frozen.symbol, frozen.size) == ("x", 1, "sequence", 48)


def test_symbols_get_their_names_everywhere() -> None:
    """Two symbols of one batch become one name; an expression over them becomes unknown."""
    model = _model()
    name_axes(model, AXES, OUTPUTS)
    x, mask = model.graph.inputs
    hidden, last = (node.outputs[0] for node in model.graph)
    assert declared_shape(x) == ("batch", "sequence", 8)
    assert declared_shape(mask) == ("batch", "sequence")
    assert declared_shape(hidden) == ("batch", None, 8)
    assert declared_shape(last) == ("batch", "sequence", 8)


def test_naming_twice_changes_nothing() -> None:
    """Shape objects may be shared, so the pass must bear its own result."""
    model = _model()
    shared = model.graph.inputs[0].shape
    model.graph.outputs[0].shape = shared
    name_axes(model, AXES, OUTPUTS)
    name_axes(model, AXES, OUTPUTS)
    assert declared_shape(model.graph.inputs[0]) == ("batch", "sequence", 8)
    assert declared_shape(model.graph.outputs[0]) == ("batch", "sequence", 8)


def test_shapes_behind_recurrent_nodes_are_dropped() -> None:
    """torch.export froze them at the sample's length; engines infer the true ones."""
    model = _model("LSTM")
    name_axes(model, AXES, OUTPUTS)
    hidden, last = (node.outputs[0] for node in model.graph)
    assert hidden.shape is None
    assert declared_shape(last) == ("batch", "sequence", 8)


def test_true_shape_follows_the_measured_sizes() -> None:
    """Symbols where an axis followed one, a name of its own where it varied otherwise."""
    runs = [
        ({"batch": 1, "sequence": 9}, (1, 9, 4, 32)),
        ({"batch": 4, "sequence": 7}, (4, 7, 3, 32)),
    ]
    assert true_shape("y", runs, ("s1", 48, None, 32)) == ("batch", "sequence", "y_2", 32)


def test_axis_that_the_graph_leaves_open_stays_open() -> None:
    """It did not vary in the runs, but nothing says that it cannot."""
    runs = [({"batch": 1}, (1, 5)), ({"batch": 4}, (4, 5))]
    assert true_shape("y", runs, ("s1", "s7")) == ("batch", "y_1")
    assert true_shape("y", runs, ("s1", 5)) == ("batch", 5)
