"""Attention over a cache that ONNX Runtime keeps in place: the same answers, other operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgekit.graph.decoders.grouping import group_attention
from edgekit.runtime.engines.onnxruntime import import_onnxruntime
from tests.generation_models import FLOAT, INT, decoder, exported_decoder

# Two rows, the first of which is filled up on the left.
IDS = np.array([[0, 0, 7, 9, 11, 13], [4, 6, 8, 10, 12, 14]])
SEEN = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
PLACES = np.maximum(SEEN.cumsum(axis=1) - 1, 0)
Decide = Callable[[onnx.GraphProto], None]


def answers(model: onnx.ModelProto, portions: list[tuple[int, int]]) -> list[np.ndarray]:
    """All outputs of each step, the caches of which are inputs of the next."""
    session = import_onnxruntime().InferenceSession(model.SerializeToString())
    names = [value.name for value in session.get_outputs()]
    kept = {
        value.name: np.zeros((2, value.shape[1], 0, value.shape[3]), np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }
    found = []
    for start, end in portions:
        feeds = {
            "input_ids": IDS[:, start:end],
            "attention_mask": SEEN[:, :end],
            "position_ids": PLACES[:, start:end],
        }
        made = session.run(names, {**feeds, **kept})
        found += made
        for name, array in zip(names, made, strict=True):
            if name.startswith("present."):
                kept[name.replace("present.", "past_key_values.")] = array
    return found


def grouped(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """The model after the change, and how often it was made."""
    graph = ir.serde.deserialize_model(model)
    count = group_attention(graph, "capacity")
    return ir.serde.serialize_model(graph), count


def kinds(model: onnx.ModelProto) -> set[str]:
    """The operators of a model."""
    return {node.op_type for node in model.graph.node}


FORMS = {
    "appending": decoder(),
    "exported": exported_decoder(shared=2, rotated=True),
    "all heads of their own": exported_decoder(shared=4, rotated=True),
    "not rotated": exported_decoder(shared=2, rotated=False),
    "normalised": exported_decoder(shared=2, rotated=True, normed=True),
    "two axes": exported_decoder(shared=2, rotated=True, flat=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_answers_stay(form: str) -> None:
    """A padded prompt, then single tokens: logits and caches are those of before."""
    model, count = grouped(FORMS[form])
    assert count == 2
    onnx.checker.check_model(model)
    portions = [(0, 4), (4, 5), (5, 6)]
    for got, want in zip(answers(model, portions), answers(FORMS[form], portions), strict=True):
        assert got.shape == want.shape
        # What padding sees of padding is not what anybody asks for.
        np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-4)
        if got.ndim == 4 or len(got[0]) > 1:
            np.testing.assert_allclose(
                got[0][..., 2:, :], want[0][..., 2:, :], rtol=1e-4, atol=1e-4
            )
        else:
            np.testing.assert_allclose(got[0], want[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_past_and_present_have_one_shape(form: str) -> None:
    """Both are declared with the axis that says that they may be one buffer."""
    model, _ = grouped(FORMS[form])
    found = {}
    for value in (*model.graph.input, *model.graph.output):
        sizes = value.type.tensor_type.shape.dim
        found[value.name] = [size.dim_param or size.dim_value for size in sizes]
    pasts = [name for name in found if name.startswith("past_key_values.")]
    assert len(pasts) == 4
    for name in pasts:
        assert found[name] == found[name.replace("past_key_values.", "present.")]
        assert found[name][2] == "capacity"


@pytest.mark.parametrize("form", FORMS)
def test_nothing_reads_how_long_a_buffer_is(form: str) -> None:
    """No cache is copied behind another any more, and lengths come from the mask."""
    model, _ = grouped(FORMS[form])
    assert "Attention" not in kinds(model)
    for node in model.graph.node:
        pasts = [name for name in node.input if name.startswith("past_key_values.")]
        assert not pasts or node.op_type == "GroupQueryAttention"


def test_heads_are_not_turned_back_and_forth() -> None:
    """Where a projection has the heads of a token in one axis, the operator reads it as it is."""
    model, _ = grouped(exported_decoder(shared=2, rotated=False))
    made = {name: node for node in model.graph.node for name in node.output}
    sites = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    assert {made[name].op_type for node in sites for name in node.input[:3]} == {"MatMul"}
    assert not kinds(model) & {"Tile", "Transpose"}


def _no_mask(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Attention":
            del node.input[3:]


def _boolean_mask(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Attention":
            node.input[3] = "seen"


def _half_mask(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Attention":
            mask = node.input[3]
            node.input[3] = "mask.16"
    graph.node.append(helper.make_node("Cast", [mask], ["mask.16"], to=TensorProto.FLOAT16))


def _capped(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Attention":
            node.attribute.append(helper.make_attribute("softcap", 30.0))


def _one_more_reader(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Neg", ["past_key_values.0.key"], ["other"]))
    graph.output.append(helper.make_tensor_value_info("other", FLOAT, None))


def _one_more_cache(graph: onnx.GraphProto) -> None:
    shape = ["batch", 1, "past", 8]
    graph.input.append(helper.make_tensor_value_info("past_key_values.9.key", FLOAT, shape))
    graph.output.append(helper.make_tensor_value_info("present.9.key", FLOAT, shape))
    graph.node.append(helper.make_node("Identity", ["past_key_values.9.key"], ["present.9.key"]))


def _no_attention_mask(graph: onnx.GraphProto) -> None:
    for value in graph.input:
        if value.name == "attention_mask":
            value.name = "mask_of_tokens"
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[at] = "mask_of_tokens"


def _wide_mask(graph: onnx.GraphProto) -> None:
    for value in graph.input:
        if value.name == "attention_mask":
            shape = ["batch", 1, "sequence", "total"]
            value.CopyFrom(helper.make_tensor_value_info(value.name, INT, shape))


def _half_caches(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16


UNKNOWN: dict[str, Decide] = {
    "no mask": _no_mask,
    "boolean mask": _boolean_mask,
    "mask in half precision": _half_mask,
    "softcap": _capped,
    "another reader of a cache": _one_more_reader,
    "a cache without attention": _one_more_cache,
    "no mask of tokens": _no_attention_mask,
    "a mask of tokens of four axes": _wide_mask,
    "caches in half precision": _half_caches,
}


@pytest.mark.parametrize("form", ["appending", "exported"])
@pytest.mark.parametrize("unlike", UNKNOWN)
def test_other_forms_are_left_alone(unlike: str, form: str) -> None:
    """One thing that is not known, and the whole graph stays as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(FORMS[form])
    UNKNOWN[unlike](model.graph)
    graph = ir.serde.deserialize_model(model)
    before = ir.serde.serialize_model(graph)
    assert group_attention(graph, "capacity") == 0
    assert ir.serde.serialize_model(graph) == before


def test_heads_of_an_odd_size_are_left_alone() -> None:
    """ONNX Runtime's operator takes heads of 8, 16, 24… numbers only."""
    assert grouped(exported_decoder(shared=2, rotated=True, size=4))[1] == 0


def test_a_graph_without_cache_is_left_alone() -> None:
    """Attention alone, as an encoder has it, is not what is looked for."""
    value = helper.make_tensor_value_info("x", FLOAT, ["batch", "sequence", 8])
    node = helper.make_node("Attention", ["x"] * 3, ["y"], q_num_heads=2, kv_num_heads=2)
    other = helper.make_tensor_value_info("y", FLOAT, ["batch", "sequence", 8])
    model = helper.make_model(
        helper.make_graph([node], "encoder", [value], [other]),
        opset_imports=[helper.make_opsetid("", 23)],
        ir_version=11,
    )
    assert grouped(model)[1] == 0
