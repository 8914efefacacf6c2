"""Names, metadata, order and shared weights of exported graphs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.graph.onnx_clean import (
    address,
    name_by_module,
    order_interface,
    share_weights,
    strip_metadata,
)

TABLE = np.arange(1200, dtype=np.float32).reshape(60, 20)


def _weight(name: str, array: np.ndarray) -> ir.Value:
    return ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.Tensor(array, name=name),
    )


def _model() -> ir.Model:
    """Gather(table, ids) → MatMul with a view of the same table, turned."""
    ids = ir.Value(name="ids", shape=ir.Shape(["n"]), type=ir.TensorType(ir.DataType.INT64))
    spare = ir.Value(name="spare", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    table, turned = _weight("table", TABLE), _weight("val_1", TABLE.T)
    gather = ir.node("Gather", [table, ids])
    matmul = ir.node("MatMul", [gather.outputs[0], turned])
    matmul.outputs[0].name = "logits"
    for node, scopes in ((gather, "['', 'model', 'model.embed', 'g']"), (matmul, "['m']")):
        node.metadata_props["pkg.torch.onnx.name_scopes"] = scopes
        node.metadata_props["pkg.torch.onnx.stack_trace"] = "/home/someone/model.py"
    graph = ir.Graph(
        [spare, ids],
        [matmul.outputs[0], gather.outputs[0]],
        nodes=[gather, matmul],
        initializers=[table, turned],
        opset_imports={"": 23},
    )
    gather.outputs[0].name = "hidden"
    return ir.Model(graph, ir_version=10)


def test_nodes_and_weights_are_named_after_their_modules() -> None:
    """The wrapper's prefix is cut off, and a folded view gets the name of its parameter."""
    model = _model()
    name_by_module(model, {address(model.graph.initializers["val_1"]): "model.w"}, prefix="model.")
    assert [node.name for node in model.graph] == ["/embed/Gather", "/MatMul"]
    assert "w" in model.graph.initializers


def test_no_metadata_is_left() -> None:
    """Stack traces hold the paths of the machine that exported."""
    model = _model()
    model.metadata_props["a"] = model.graph.metadata_props["b"] = "c"
    strip_metadata(model)
    assert "someone" not in str(ir.to_proto(model))
    assert not model.metadata_props
    assert not model.graph.metadata_props
    assert not any(node.metadata_props for node in model.graph)


def test_interface_is_put_into_order_and_unused_inputs_go() -> None:
    """The graph's order may differ from the caller's."""
    model = _model()
    assert order_interface(model, ["ids", "spare"], ["hidden", "logits"], drop_unused=False) == (
        "ids",
        "spare",
    )
    assert [value.name for value in model.graph.outputs] == ["hidden", "logits"]
    assert order_interface(model, ["ids", "spare"], ["hidden", "logits"], drop_unused=True) == (
        "ids",
    )


def test_tied_weight_is_kept_once() -> None:
    """The turned view of the table becomes a Transpose of it."""
    model = _model()
    assert share_weights(model) == 1
    assert list(model.graph.initializers) == ["table"]
    transpose = next(iter(model.graph))
    assert transpose.op_type == "Transpose"
    matmul = next(node for node in model.graph if node.op_type == "MatMul")
    assert matmul.inputs[1] is transpose.outputs[0]


def test_two_views_of_one_weight_become_one() -> None:
    """Layers that share parameters fold the same view several times."""
    model = _model()
    second = _weight("val_2", TABLE.T)
    model.graph.initializers["val_2"] = second
    extra = ir.node("MatMul", [model.graph[0].outputs[0], second])
    model.graph.append(extra)
    assert share_weights(model) == 2
    assert list(model.graph.initializers) == ["table"]


def test_other_weights_at_other_addresses_stay() -> None:
    """Equal values are not a tie."""
    model = _model()
    model.graph.initializers["copy"] = _weight("copy", TABLE.copy())
    assert share_weights(model) == 1
    assert set(model.graph.initializers) == {"table", "copy"}
