"""Attention that reads queries, keys and values from the one tensor that a product makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgekit.graph.decoders.fusing import pack_projections
from edgekit.graph.decoders.grouping import group_attention
from tests.generation_models import FLOAT, exported_decoder
from tests.graph.decoders.test_grouping import check_alike

CONTEXT = 64
KINDS = ("query", "key", "value")


def projected(
    *, size: int = 16, rotated: bool = True, order: tuple[str, ...] = KINDS
) -> onnx.ModelProto:
    """A decoder whose attention has queries, keys and values that one product makes."""
    graph = ir.serde.deserialize_model(exported_decoder(shared=2, rotated=rotated, size=size))
    assert group_attention(graph, "capacity", CONTEXT) == 2
    model = ir.serde.serialize_model(graph)
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for layer in range(2):
        at, source = next(
            (at, node.input[0])
            for at, node in enumerate(model.graph.node)
            if node.output[0] == f"{layer}.query"
        )
        names = [f"{layer}.{kind}" for kind in order]
        parts = [weights[f"{name}.weight"] for name in names]
        sizes = np.array([part.shape[1] for part in parts])
        model.graph.initializer.append(
            numpy_helper.from_array(np.concatenate(parts, 1), f"{layer}.all.weight")
        )
        model.graph.initializer.append(numpy_helper.from_array(sizes, f"{layer}.cut"))
        model.graph.node.insert(
            at, helper.make_node("Split", [f"{layer}.all", f"{layer}.cut"], names, axis=-1)
        )
        model.graph.node.insert(
            at, helper.make_node("MatMul", [source, f"{layer}.all.weight"], [f"{layer}.all"])
        )
        for node in [one for one in model.graph.node if one.op_type == "MatMul"]:
            if node.output[0] in names:
                model.graph.node.remove(node)
    onnx.checker.check_model(model)
    return model


def packed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """The model after the change, and how often it was made."""
    graph = ir.serde.deserialize_model(model)
    count = pack_projections(graph)
    return ir.serde.serialize_model(graph), count


@pytest.mark.parametrize("rotated", [True, False], ids=["turned", "not turned"])
def test_one_tensor_is_read(tmp_path: Path, rotated: bool) -> None:
    """Nothing is cut any more, and the answers stay."""
    model, count = packed(projected(rotated=rotated))
    assert count == 2
    onnx.checker.check_model(model)
    assert "Split" not in {node.op_type for node in model.graph.node}
    sites = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    assert [list(node.input)[:3] for node in sites] == [["0.all", "", ""], ["1.all", "", ""]]
    check_alike(tmp_path, model, projected(rotated=rotated))


def _told(model: onnx.ModelProto) -> None:
    for layer in range(2):
        value = helper.make_tensor_value_info(f"{layer}.value", FLOAT, None)
        model.graph.output.append(value)


def _nothing(model: onnx.ModelProto) -> None:
    assert model.graph.node


STAYING: dict[str, tuple[dict, Callable[[onnx.ModelProto], None]]] = {
    "turned outside": ({"size": 8}, _nothing),
    "another order": ({"order": ("key", "query", "value")}, _nothing),
    "an answer": ({}, _told),
}


@pytest.mark.parametrize("case", STAYING)
def test_other_parts_stay(case: str) -> None:
    """Parts that the operator takes otherwise, or that somebody else wants."""
    options, change = STAYING[case]
    model = projected(**options)
    change(model)
    after, count = packed(model)
    assert count == 0
    assert [node.op_type for node in after.graph.node].count("Split") == 2
