"""Attention over a cache that ONNX Runtime keeps in place: the same answers, other operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.manifest import Component
from edgekit.graph.decoders import rotating
from edgekit.graph.decoders.grouping import group_attention
from edgekit.runtime.caches import cache_pairs, empty_cache
from edgekit.runtime.engines import find_engine
from edgekit.runtime.engines.onnxruntime import graph_specs
from tests.generation_models import FLOAT, INT, decoder, exported_decoder

# Two rows, the first of which is filled up on the left.
IDS = np.array([[0, 0, 7, 9, 11, 13], [4, 6, 8, 10, 12, 14]])
SEEN = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
PLACES = np.maximum(SEEN.cumsum(axis=1) - 1, 0)
# As many tokens as there are angles.
CONTEXT = 64
Decide = Callable[[onnx.GraphProto], None]


def answers(
    folder: Path, model: onnx.ModelProto, portions: list[tuple[int, int]]
) -> list[np.ndarray]:
    """All outputs of each step, the caches of which are inputs of the next."""
    onnx.save(model, folder / "model.onnx")
    component = Component("onnx", ("model.onnx",), *graph_specs(folder / "model.onnx"))
    session = find_engine("onnxruntime").open_session(
        folder, component, options={}, device="cpu", threads=1
    )
    pairs = cache_pairs(session.inputs, session.outputs)
    kept = {spec.name: empty_cache(spec, 2) for spec, _ in pairs}
    found: list[np.ndarray] = []
    for start, end in portions:
        feeds = {
            "input_ids": IDS[:, start:end],
            "attention_mask": SEEN[:, :end],
            "position_ids": PLACES[:, start:end],
        }
        made = session.run({**feeds, **kept})
        found += [made[spec.name] for spec in session.outputs]
        kept = {spec.name: made[present] for spec, present in pairs}
    return found


def grouped(model: onnx.ModelProto, context: int | None = CONTEXT) -> tuple[onnx.ModelProto, int]:
    """The model after the change, and how often it was made."""
    graph = ir.serde.deserialize_model(model)
    count = group_attention(graph, "capacity", context)
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
    "wide heads": exported_decoder(shared=2, rotated=True, size=16),
    "wide heads, normalised": exported_decoder(shared=2, rotated=True, normed=True, size=16),
    "half of a head turned": exported_decoder(shared=2, rotated=True, size=32, turned=16),
    "a window": exported_decoder(shared=2, rotated=True, window=3),
    "a window of one": exported_decoder(shared=2, rotated=True, size=16, window=1),
}
# Heads of 8 numbers are not turned by the operator.
TURNED = ("wide heads", "wide heads, normalised", "half of a head turned", "a window of one")


@pytest.mark.parametrize("form", FORMS)
def test_answers_stay(tmp_path: Path, form: str) -> None:
    """A padded prompt, then single tokens: logits and caches are those of before."""
    model, count = grouped(FORMS[form])
    assert count == 2
    onnx.checker.check_model(model)
    check_alike(tmp_path, model, FORMS[form])


def check_alike(folder: Path, changed: onnx.ModelProto, before: onnx.ModelProto) -> None:
    """Whether two models answer alike to a padded prompt and the tokens behind it."""
    portions = [(0, 4), (4, 5), (5, 6)]
    found, wanted = (answers(folder, one, portions) for one in (changed, before))
    for got, want in zip(found, wanted, strict=True):
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


@pytest.mark.parametrize("form", FORMS)
def test_the_operator_turns_and_hides(form: str) -> None:
    """Neither angles nor masks are computed where it has them itself; every input stays."""
    model, _ = grouped(FORMS[form])
    sites = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    assert ("RotaryEmbedding" in kinds(model)) is (
        form not in TURNED and "RotaryEmbedding" in kinds(FORMS[form])
    )
    windows = {"a window": 3, "a window of one": 1}
    for node in sites:
        given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        assert given.get("do_rotary", 0) == (form in TURNED)
        assert given.get("local_window_size") == windows.get(form)
        assert len(node.input) == (9 if form in TURNED else 7)
    assert not kinds(model) & {"LessOrEqual", "Where", "Cos"} or form not in TURNED
    before = [value.name for value in FORMS[form].graph.input]
    assert [value.name for value in model.graph.input] == before


def test_layers_share_their_tables() -> None:
    """Cosines and sines are stored once, a row for every token of the context."""
    model, _ = grouped(FORMS["wide heads"])
    stored = {one.name: list(one.dims) for one in model.graph.initializer}
    tables = {name: sizes for name, sizes in stored.items() if name.startswith("edgekit/")}
    assert list(tables.values()) == [[CONTEXT, 8], [CONTEXT, 8]]
    read = [list(node.input)[7:] for node in model.graph.node
            if node.op_type == "GroupQueryAttention"]  # fmt: skip
    assert read == [list(tables)] * 2


def _others_turned(graph: onnx.GraphProto) -> None:
    """Keys by other angles than queries."""
    graph.node.insert(0, helper.make_node("Abs", ["sin"], ["other"]))
    for at, node in enumerate(graph.node):
        if node.op_type == "Sin":
            graph.node.insert(at + 1, graph.node[0])
            break
    del graph.node[0]
    for node in graph.node:
        if node.op_type == "RotaryEmbedding" and "key" in node.output[0]:
            node.input[2] = "other"


def _turned_by_length(graph: onnx.GraphProto) -> None:
    """Angles that another length changes, as dynamic scaling has them."""
    at = next(at for at, node in enumerate(graph.node) if node.op_type == "Cos")
    graph.node[at].input[0] = "scaled"
    graph.node.insert(at, helper.make_node("Mul", ["angle", "total.float"], ["scaled"]))
    graph.node.insert(at, helper.make_node("Cast", ["total"], ["total.float"], to=FLOAT))


def _turned_by_word(graph: onnx.GraphProto) -> None:
    """Angles that another word changes."""
    at = next(at for at, node in enumerate(graph.node) if node.op_type == "Gather"
              and node.output[0] == "angle")  # fmt: skip
    graph.node[at].input[1] = "input_ids"


STAYING: dict[str, tuple[Decide | None, int | None]] = {
    "no context is known": (None, None),
    "fewer angles than tokens": (None, CONTEXT + 1),
    "keys are turned otherwise": (_others_turned, CONTEXT),
    "angles follow from the word": (_turned_by_word, CONTEXT),
}


@pytest.mark.parametrize("case", STAYING)
def test_other_rotations_stay_outside(tmp_path: Path, case: str) -> None:
    """What is no table by place is computed as before, in front of the operator."""
    change, context = STAYING[case]
    before = onnx.ModelProto()
    before.CopyFrom(FORMS["wide heads"])
    if change is not None:
        change(before.graph)
    after, count = grouped(before, context)
    assert count == 2
    turning = [node for node in after.graph.node if node.op_type == "RotaryEmbedding"]
    assert len(turning) == 4
    check_alike(tmp_path, after, before)


def test_angles_that_follow_from_the_length_stay_outside() -> None:
    """A table by place would hold those of one length alone."""
    model = onnx.ModelProto()
    model.CopyFrom(FORMS["wide heads"])
    _turned_by_length(model.graph)
    after, count = grouped(model)
    assert count == 2
    assert {"RotaryEmbedding", "Cos"} <= kinds(after)


def test_large_tables_are_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model with a long context would be its tables."""
    monkeypatch.setattr(rotating, "_ALWAYS", 1_000)
    monkeypatch.setattr(rotating, "_SHARE", 0.001)
    model, count = grouped(FORMS["wide heads"])
    assert count == 2
    assert "RotaryEmbedding" in kinds(model)
    assert not any(one.name.startswith("edgekit/rotary") for one in model.graph.initializer)


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


def _seen(graph: onnx.GraphProto, name: str) -> None:
    """Let another truth decide what is seen."""
    for node in graph.node:
        if node.op_type == "Where":
            node.input[0] = name


def _later_seen(graph: onnx.GraphProto) -> None:
    _seen(graph, "real.4")


def _padding_seen(graph: onnx.GraphProto) -> None:
    at = next(at for at, node in enumerate(graph.node) if node.op_type == "Where")
    axes = numpy_helper.from_array(np.array([0, 1]), "axes.causal")
    graph.initializer.append(axes)
    four = helper.make_node("Unsqueeze", ["causal", axes.name], ["causal.4"])
    graph.node.insert(at, four)
    _seen(graph, "causal.4")


def _by_distance(graph: onnx.GraphProto) -> None:
    """What is farther off counts for less, as in ALiBi."""
    at = next(at for at, node in enumerate(graph.node) if node.op_type == "Where")
    graph.node.insert(at, helper.make_node("Cast", ["column"], ["column.float"], to=FLOAT))
    graph.node[at + 1].input[1] = "column.float"


def _a_little_hidden(graph: onnx.GraphProto) -> None:
    for one in graph.initializer:
        if one.name == "hide":
            one.CopyFrom(numpy_helper.from_array(np.array(-5, np.float32), "hide"))


def _by_words(graph: onnx.GraphProto) -> None:
    at = next(at for at, node in enumerate(graph.node) if node.op_type == "Where")
    graph.node[at].input[1] = "let.all"
    words = helper.make_node("Cast", ["input_ids"], ["words"], to=FLOAT)
    graph.node.insert(at, helper.make_node("Add", ["let", "words"], ["let.all"]))
    graph.node.insert(at, words)


UNKNOWN: dict[str, Decide] = {
    "later tokens are seen": _later_seen,
    "padding is seen": _padding_seen,
    "a mask by distance": _by_distance,
    "a mask that hides a little": _a_little_hidden,
    "a mask of words": _by_words,
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
