"""What is read of a model that somebody else wrote, and what is refused of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.core.errors import SourceError
from edgekit.core.onnx_file import model_files
from edgekit.graph.onnx_foreign import ForeignModel, check_foreign, read_foreign
from tests.onnx_models import (
    FLOAT,
    HALF,
    INT64,
    counter,
    custom_operator,
    linear,
    model,
    point_to,
    save,
    save_outside,
)


def read(made: onnx.ModelProto, folder: Path) -> ForeignModel:
    """A model that went through a file."""
    path = save(made, folder / "m.onnx")
    return read_foreign(path, model_files(path))


def test_interface_and_facts(tmp_path: Path) -> None:
    """Names, types and shapes as declared; numbers that were trained are counted."""
    found = read(linear(opset=16), tmp_path)
    assert [(p.name, p.dtype, p.shape) for p in found.inputs] == [("x", "float32", ("batch", 4))]
    assert [p.shape for p in found.outputs] == [("batch", 3)]
    assert (found.opset, found.ir_version, found.name) == (16, 8, "small")
    assert (found.parameters, found.dtype, found.precision) == (4 * 32 + 32 * 3, "float32", "fp32")


def test_half_precision(tmp_path: Path) -> None:
    """Weights in float16 make it a model of that precision."""
    found = read(linear(kind=HALF), tmp_path)
    assert (found.inputs[0].dtype, found.dtype, found.precision) == ("float16", "float16", "fp16")


def test_open_axes(tmp_path: Path) -> None:
    """An axis without a name, one that is negative, and a shape that is not declared at all."""
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    made = model(nodes, {"a": (FLOAT, (None, -1)), "b": (FLOAT, None)}, {"y": (FLOAT, None)})
    a, b = read(made, tmp_path).inputs
    assert a.shape == (None, None)
    assert b.shape is None


def test_weights_that_are_listed_as_inputs(tmp_path: Path) -> None:
    """Old exporters listed all of them; nobody has to give them."""
    made = linear()
    made.graph.input.append(helper.make_tensor_value_info("w", FLOAT, (4, 32)))
    assert [port.name for port in read(made, tmp_path).inputs] == ["x"]


def test_custom_operators_are_named(tmp_path: Path) -> None:
    """With their domain, and what to do."""
    with pytest.raises(SourceError, match=r"custom operators.*acme\.ops: Whiten") as caught:
        read(custom_operator(), tmp_path)
    assert "standard operators" in (caught.value.hint or "")


def test_custom_operators_inside_branches(tmp_path: Path) -> None:
    """A branch that is never taken counts, too."""
    value = helper.make_tensor_value_info("t", FLOAT, ())
    whiten = helper.make_node("Whiten", ["x"], ["t"], domain="acme.ops")
    plain = helper.make_node("ReduceMean", ["x"], ["t"], keepdims=0)
    branches = {
        "then_branch": helper.make_graph([whiten], "then", [], [value]),
        "else_branch": helper.make_graph([plain], "else", [], [value]),
    }
    made = model(
        [helper.make_node("If", ["c"], ["y"], **branches)],
        {"x": (FLOAT, (2,)), "c": (TensorProto.BOOL, ())},
        {"y": (FLOAT, ())},
        domains={"acme.ops": 1},
    )
    with pytest.raises(SourceError, match="Whiten"):
        read(made, tmp_path)


def test_functions_of_the_model_are_no_custom_operators(tmp_path: Path) -> None:
    """They bring their own definition."""
    made = custom_operator()
    made.functions.append(
        helper.make_function(
            "acme.ops", "Whiten", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])],
            [helper.make_opsetid("", 17)],
        )
    )  # fmt: skip
    assert read(made, tmp_path).operators == {"Relu": 1, "Whiten": 1}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "has no name"),
        ("x\x1b[2J", "unsafe"),
        ("../../x", "unsafe"),
        ("n" * 300, "more than 200"),
    ],
)
def test_unsafe_names(name: str, told: str, tmp_path: Path) -> None:
    """They are keys of files, and shown on terminals."""
    made = model(
        [helper.make_node("Relu", [name], ["y"])], {name: (FLOAT, (2,))}, {"y": (FLOAT, (2,))}
    )
    with pytest.raises(SourceError, match=told):
        read(made, tmp_path)


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    """Which of the two would be fed?"""
    made = linear()
    made.graph.input.append(made.graph.input[0])
    with pytest.raises(SourceError, match="'x' is there twice"):
        read(made, tmp_path)


def test_slashes_and_colons_are_names(tmp_path: Path) -> None:
    """As other frameworks write them."""
    name = "serving/default_x:0"
    made = model(
        [helper.make_node("Relu", [name], ["y"])], {name: (FLOAT, (2,))}, {"y": (FLOAT, (2,))}
    )
    assert read(made, tmp_path).inputs[0].name == name


def test_text_is_no_array_of_numbers(tmp_path: Path) -> None:
    """Neither are sequences."""
    made = model(
        [helper.make_node("Identity", ["x"], ["y"])],
        {"x": (TensorProto.STRING, (2,))},
        {"y": (TensorProto.STRING, (2,))},
    )
    with pytest.raises(SourceError, match="type string"):
        read(made, tmp_path)
    made = model([helper.make_node("SequenceConstruct", ["x"], ["y"])], {"x": (FLOAT, (2,))}, {})
    made.graph.output.append(
        helper.make_value_info(
            "y", helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, (2,)))
        )
    )
    with pytest.raises(SourceError, match="a sequence"):
        read(made, tmp_path)


def test_model_without_inputs(tmp_path: Path) -> None:
    """There is nothing to ask."""
    made = model(
        [helper.make_node("Identity", ["w"], ["y"])], {}, {"y": (INT64, (1,))},
        {"w": np.array([1], np.int64)},
    )  # fmt: skip
    with pytest.raises(SourceError, match="takes no input"):
        read(made, tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"length": "8"}, "its shape needs 512"),
        ({"offset": "100000"}, "needs 512 bytes from 100,000 on"),
        ({"offset": "-4"}, "from -4 on"),
        ({"offset": "x"}, "invalid literal"),
    ],
)
def test_weights_that_do_not_fit(change: dict[str, str], told: str, tmp_path: Path) -> None:
    """The graph and the file beside it belong to each other."""
    path = save_outside(linear(), tmp_path / "m.onnx")
    point_to(path, lambda known: known.update(change))
    with pytest.raises(SourceError, match=told):
        read_foreign(path, model_files(path))


def test_weights_cut_short(tmp_path: Path) -> None:
    """A second download that ended early."""
    path = save_outside(linear(), tmp_path / "m.onnx")
    weights = tmp_path / "weights.data"
    weights.write_bytes(weights.read_bytes()[:600])
    with pytest.raises(SourceError, match=r"'v' needs 384 bytes.*has 600"):
        read_foreign(path, model_files(path))


@pytest.mark.parametrize(("count", "fits"), [(5, True), (8, True), (9, False)])
def test_four_values_may_share_a_byte(count: int, fits: bool, tmp_path: Path) -> None:
    """Numbers of two bits, the last byte not full."""
    made = linear()
    tensor = made.graph.initializer.add(name="t", data_type=TensorProto.INT2, dims=[count])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="two.data")
    (tmp_path / "two.data").write_bytes(b"ab")
    if fits:
        assert read(made, tmp_path).operators["MatMul"] == 2
        return
    with pytest.raises(SourceError, match="needs 3 bytes"):
        read(made, tmp_path)


def test_types_of_later_releases(tmp_path: Path) -> None:
    """Of inputs, of weights, and none at all."""
    made = linear()
    made.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(SourceError, match=r"input 'x' .* has the type 99"):
        read(made, tmp_path)
    for kind in (99, 0):
        made = linear()
        made.graph.initializer[0].data_type = kind
        with pytest.raises(SourceError, match=f"tensor 'w' .* has the type {kind}"):
            read(made, tmp_path)


def test_long_texts_are_cut(tmp_path: Path) -> None:
    """A manifest has room for a name, not for a megabyte of one."""
    made = linear(("n" * 1000, 4))
    made.graph.name = "g" * 1_200_000
    made.producer_name = "p" * 1_200_000
    found = read(made, tmp_path)
    assert len(found.name) == len(found.producer) == 200
    assert found.name.endswith("g…")
    assert found.inputs[0].shape == (None, 4)


def test_more_axes_than_arrays_have(tmp_path: Path) -> None:
    """numpy has a limit."""
    with pytest.raises(SourceError, match="has 65 axes; arrays have up to 64"):
        read(linear((1,) * 65), tmp_path)


def test_open_shapes_are_checked_beside_their_weights(tmp_path: Path) -> None:
    """The checker wants a shape, and the weights where the message is."""
    made = linear(None)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    path = save_outside(made, tmp_path / "m.onnx")
    check_foreign(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "weights.data"]


def test_checked_copies_are_told_by_their_own_name(tmp_path: Path) -> None:
    """Whoever imports has never seen the copy."""
    path = save_outside(linear(), tmp_path / "copy.onnx")
    (tmp_path / "weights.data").unlink()
    with pytest.raises(SourceError, match=r"^given/m\.onnx is not valid ONNX") as caught:
        check_foreign(path, Path("given/m.onnx"))
    assert str(tmp_path) not in caught.value.message


def test_invalid_graph(tmp_path: Path) -> None:
    """onnx.checker's reason is told."""
    made = counter()
    made.graph.node[0].input[0] = "nowhere"
    with pytest.raises(SourceError, match="not valid ONNX"):
        check_foreign(save(made, tmp_path / "m.onnx"))
