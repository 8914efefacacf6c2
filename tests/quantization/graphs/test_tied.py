"""Heads tied to their embeddings: one table of 8 bits that both read, or one of floats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.core.manifest import Component, TensorSpec
from edgekit.quantization import onnxruntime
from edgekit.quantization.recipes import QuantizedComponent, Recipe
from edgekit.runtime.engines.onnxruntime import import_onnxruntime, open_session
from tests.quantization.graphs.test_grouping import groups_of
from tests.quantization.networks import (
    HIDDEN,
    VNNI,
    VOCABULARY,
    Made,
    Weights,
    bundle_of,
    encoder,
    model_of,
)
from tests.quantization.small import Encoder, cosine

make = onnx.helper.make_node
EVERY_WORD = {"input_ids": np.arange(VOCABULARY, dtype=np.int64)[None]}


@pytest.fixture
def tied(tmp_path: Path) -> Encoder:
    return Encoder(tmp_path, tied=True)


def model_at(tied: Encoder, made: QuantizedComponent) -> onnx.ModelProto:
    """What was written."""
    return onnx.load(str(tied.folder / "out" / made.component.files[0]))


def constants(model: onnx.ModelProto) -> Mapping[str, NDArray]:
    """All weights by name."""
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def words(tied: Encoder, made: QuantizedComponent | None = None) -> NDArray:
    """What the head answers to every word, by the candidate or by the float graph."""
    folder = tied.bundle.path if made is None else tied.folder / "out"
    part = tied.bundle.manifest.components["model"] if made is None else made.component
    session = open_session(folder, part, options={}, device="cpu", threads=1)
    try:
        return session.run(EVERY_WORD)["words"]
    finally:
        session.close()


@pytest.mark.parametrize("scheme", ["weight-int8", "weight-int4"])
@pytest.mark.parametrize("block", [16, 64])
def test_one_table_for_both(tied: Encoder, scheme: str, block: int) -> None:
    """Embedding and head read the same codes, also where a block is longer than a row."""
    made = tied.write(Recipe(scheme, block=block))  # type: ignore[arg-type]
    assert made.kept_float == ()
    assert made.quantized_ops == {"Gather": 1, "Gemm": 1, "MatMul": 6}
    model = model_at(tied, made)
    held = constants(model)
    assert "table" not in held
    assert held["table/int8"].shape == (VOCABULARY, -(-HIDDEN // block), block)
    readers = [node.op_type for node in model.graph.node if "table/int8" in node.input]
    assert readers == ["Gather", "MatMulNBits"]
    assert not any(node.op_type == "Transpose" for node in model.graph.node)


def test_the_head_keeps_8_bits(tied: Encoder) -> None:
    """Beside layers of 4 bits too: the step from them to 8 is small for what it brings."""
    eight = tied.write(Recipe("weight-int8"))
    exact = words(tied)
    assert cosine(words(tied, eight), exact) > 0.999
    four = tied.write(Recipe("weight-int4", rounding="k-quant"))
    bits = {
        node.input[1]: next(item.i for item in node.attribute if item.name == "bits")
        for node in model_at(tied, four).graph.node
        if node.op_type == "MatMulNBits"
    }
    assert bits.pop("table/int8") == 8
    assert set(bits.values()) == {4}
    assert cosine(words(tied, four), exact) > 0.97


@pytest.mark.parametrize("block", [32, 64])
def test_rows_are_those_of_the_table(tied: Encoder, block: int) -> None:
    """What the embedding reads differs from the float rows by a step at most, mostly by less."""
    made = tied.write(Recipe("weight-int8", block=block))
    path = tied.folder / "out" / made.component.files[0]
    model = onnx.load(str(path))
    model.graph.output.append(onnx.helper.make_tensor_value_info("embedded", 1, None))
    onnx.save(model, str(path))
    session = import_onnxruntime().InferenceSession(str(path))
    (rows,) = session.run(["embedded"], EVERY_WORD)
    table = constants(onnx.load(str(tied.bundle.path / "model.onnx")))["table"]
    steps = np.repeat(np.abs(constants(model)["table/scales"]), block, axis=1)[:, :HIDDEN]
    assert rows.shape == (1, VOCABULARY, HIDDEN)
    # A number as large as the block's largest, of the other sign, has no code of its own.
    assert (np.abs(rows[0] - table) <= 1.001 * steps).all()
    assert np.abs(rows[0] - table).mean() < 0.3 * steps.mean()


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static"])
def test_8_bit_products_leave_it_in_float(tied: Encoder, scheme: str) -> None:
    """Rows and 8-bit products want other numbers: both readers are kept, with the reason."""
    made = tied.write(Recipe(scheme, smooth=0.75))  # type: ignore[arg-type]
    assert {one.node for one in made.kept_float} == {"/words/Gather", "/decoder/MatMul"}
    assert all("stored twice" in one.reason for one in made.kept_float)
    assert "table" in constants(model_at(tied, made))


def test_half_precision_is_stored_once(tied: Encoder) -> None:
    """Rows are widened as they are read, the head's matrix by the engine."""
    made = tied.write(Recipe("float16"))
    held = constants(model_at(tied, made))
    assert held["table/half"].dtype == np.float16
    assert "table" not in held
    assert cosine(words(tied, made), words(tied)) > 0.999999


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("weight-int4", embeddings=False),
        Recipe("weight-int4", levels={"decoder": "float32"}),
    ],
    ids=["embeddings", "raised"],
)
def test_it_stays_whole_when_it_is_asked_for(tied: Encoder, recipe: Recipe) -> None:
    """A recipe without embeddings, or that raises the group, keeps the table and its head."""
    made = tied.write(recipe)
    assert {one.node for one in made.kept_float} == {"/words/Gather", "/decoder/MatMul"}
    held = constants(model_at(tied, made))
    assert "table" in held
    assert "table/int8" not in held


def test_both_are_one_group(tied: Encoder) -> None:
    """They are quantized together or not at all, and the table's numbers count once."""
    group = next(one for one in tied.prepared.groups if "/decoder/MatMul" in one.nodes)
    assert group.nodes == ("/words/Gather", "/decoder/MatMul")
    assert group.parameters == VOCABULARY * HIDDEN


def test_a_turned_weight_of_its_own_is_a_product(tmp_path: Path) -> None:
    """A weight that only one product reads, through a Transpose, is like any other."""
    weights = Weights()
    weights.add("w", 8, 8)
    nodes = [
        make("Transpose", ["w"], ["turned"], perm=[1, 0], name="/turn"),
        make("MatMul", ["x", "turned"], ["y"], name="/head/MatMul"),
    ]
    grouping = groups_of(nodes, weights, tmp_path)
    assert [group.nodes for group in grouping.groups] == [("/head/MatMul",)]
    assert grouping.sites["/head/MatMul"].turned
    assert grouping.tied == frozenset()


def test_a_table_that_is_read_otherwise_too(tmp_path: Path) -> None:
    """A product by the table as it lies cannot read the codes of its rows."""
    weights = Weights()
    weights.add("w", 8, 8)
    nodes = [
        make("Transpose", ["w"], ["turned"], perm=[1, 0], name="/turn"),
        make("MatMul", ["x", "turned"], ["a"], name="/one/MatMul"),
        make("MatMul", ["a", "w"], ["y"], name="/two/MatMul"),
    ]
    grouping = groups_of(nodes, weights, tmp_path)
    assert grouping.groups == ()
    assert [one.reason for one in grouping.kept] == ["its weight w is also read by MatMul"] * 2


def test_a_raised_group_is_halved_beside_few_bits(tied: Encoder) -> None:
    """At the level float16 rows and head read one table of half precision."""
    made = tied.write(Recipe("weight-int4", levels={"decoder": "float16"}))
    held = constants(model_at(tied, made))
    assert held["table/half"].dtype == np.float16
    assert not {"table", "table/int8"} & held.keys()
    assert made.quantized_ops["MatMul (stored)"] == 1


def test_who_excludes_the_head_keeps_the_embedding(tmp_path: Path) -> None:
    """They are one group: either name leaves both in float."""
    bundle = bundle_of(encoder(tied=True), tmp_path / "exported")
    prepared = onnxruntime.prepare(
        bundle, "model", VNNI, tmp_path / "work", (), exclude=["/decoder/MatMul"]
    )
    made = prepared.write(Recipe("weight-int4"), tmp_path / "out")
    assert {one.node for one in made.kept_float} == {"/words/Gather", "/decoder/MatMul"}


def head(*, transposed: bool, table: bool, ids: tuple[int | str, ...] = ("batch", "n")) -> Made:
    """Rows of a table, and their product with it: by a Gemm that turns it, or a MatMul after it.

    Without `table` the product has a weight of its own, and x is fed.
    """
    weights = Weights()
    weights.add("w", 600, 32, spread=0.2)
    weights.add("bias", 600, spread=0.1)
    # A MatMul of two axes becomes a Gemm in the engine, whose sums have no 8-bit kernel in float.
    own: tuple[int | str, ...] = ("n", 2, 32) if transposed else ("n", 32)
    x, nodes = TensorSpec("x", "float32", own), []
    if table:
        x = TensorSpec("x", "int64", ids)
        nodes.append(make("Gather", ["w", "x"], ["rows"], name="/rows"))
    entering = "rows" if table else "x"
    if transposed:
        nodes += [
            make("Transpose", ["w"], ["turned"], perm=[1, 0], name="/turn"),
            make("MatMul", [entering, "turned"], ["product"], name="/head"),
            make("Add", ["product", "bias"], ["y"], name="/add"),
        ]
    else:
        nodes.append(make("Gemm", [entering, "w", "bias"], ["y"], transB=1, name="/head"))
    leaving = (*(ids if table else own[:-1]), 600)
    component = Component("onnx", ("model.onnx",), (x,), (TensorSpec("y", "float32", leaving),))
    return model_of(nodes, weights, component), component


def both_answers(
    made: Made, recipe: Recipe, given: NDArray, folder: Path
) -> tuple[QuantizedComponent, NDArray, NDArray]:
    """(what was written, its answer, that of the float graph)."""
    bundle = bundle_of(made, folder / "exported")
    samples = [{"x": given}] * 3
    prepared = onnxruntime.prepare(bundle, "model", VNNI, folder / "work", samples)
    written = prepared.write(recipe, folder / "out")
    answers = []
    for path, part in ((folder / "out", written.component), (bundle.path, made[1])):
        session = open_session(path, part, options={}, device="cpu", threads=1)
        answers.append(session.run({"x": given})["y"])
        session.close()
    return written, answers[0], answers[1]


@pytest.mark.parametrize(
    ("transposed", "ids", "given"),
    [
        (True, ("batch", "n"), np.arange(12).reshape(3, 4)),
        (True, (), np.array(7)),
        (True, ("batch", "n"), np.zeros((2, 0), dtype=np.int64)),
        (True, ("a", "b", "c"), np.arange(24).reshape(2, 3, 4)),
        (False, ("n",), np.arange(600)),
    ],
    ids=["batch", "one word", "no word", "three axes", "Gemm"],
)
@pytest.mark.parametrize("block", [32, 128])
def test_rows_of_any_shape(
    transposed: bool, ids: tuple[str, ...], given: NDArray, block: int, tmp_path: Path
) -> None:
    """Row numbers have whatever axes they have in the float graph; a Gemm keeps its bias."""
    made = head(transposed=transposed, table=True, ids=ids)
    recipe = Recipe("weight-int8", block=block)
    written, found, expected = both_answers(made, recipe, given, tmp_path)
    assert written.kept_float == ()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(
    ("recipe", "most"),
    [
        (Recipe("int8-dynamic"), 0.05),
        (Recipe("int8-static", smooth=0.75), 0.05),
        (Recipe("weight-int8"), 0.05),
        (Recipe("weight-int4", rounding="k-quant"), 0.6),
        (Recipe("float16"), 0.002),
    ],
    ids=lambda value: value.scheme if isinstance(value, Recipe) else "",
)
def test_a_weight_that_lies_turned(
    transposed: bool, recipe: Recipe, most: float, tmp_path: Path
) -> None:
    """A weight of one product, turned by a node or by the product, is rounded as any other."""
    shape = (10, 2, 32) if transposed else (20, 32)
    given = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    made = head(transposed=transposed, table=False)
    written, found, expected = both_answers(made, recipe, given, tmp_path)
    assert written.kept_float == ()
    assert np.abs(found - expected).max() <= most
