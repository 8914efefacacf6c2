"""graph/openvino.py: ONNX to IR with names, shapes, precision and bytes that can be relied on."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.errors import CompileError, MissingDependency
from edgekit.core.hashing import sha256_file
from edgekit.core.manifest import TensorSpec
from edgekit.graph import disk
from edgekit.graph.openvino import Converted, convert
from edgekit.runtime.engines.openvino import import_openvino

INPUTS = (TensorSpec("x", "float32", ("batch", "sequence", 8)),)
OUTPUTS = (TensorSpec("y", "float32", ("batch", "sequence", 8)),)


def save(folder: Path, nodes: list[onnx.NodeProto], *, outputs=OUTPUTS, inputs=INPUTS) -> Path:
    """An ONNX file of some nodes with a weight ``w`` [8, 8]."""

    def info(spec: TensorSpec) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))

    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(spec) for spec in inputs],
        [info(spec) for spec in outputs],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def attention(tmp_path: Path) -> Path:
    """A projection and one attention over it."""
    return save(
        tmp_path,
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="/block/MatMul"),
            helper.make_node("Attention", ["h", "h", "h"], ["y"], q_num_heads=2, kv_num_heads=2),
        ],
    )


def to_ir(source: Path, name: str = "model.xml", **options: object) -> Converted:
    """Convert next to the source."""
    return convert(source, source.parent / name, inputs=INPUTS, outputs=OUTPUTS, **options)


def weight_types(xml: Path) -> set[str]:
    """The element types of the constants that are matrices."""
    model = import_openvino().Core().read_model(str(xml))
    return {
        node.get_output_element_type(0).get_type_name()
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and list(node.get_output_shape(0)) == [8, 8]
    }


def test_attention_is_one_operator(attention: Path) -> None:
    """Opset 23's Attention becomes ScaledDotProductAttention, counted."""
    converted = to_ir(attention)
    assert converted.attention == 1
    assert converted.operators["ScaledDotProductAttention"] == 1
    assert "Softmax" not in converted.operators


def test_names_and_open_axes_stay(attention: Path) -> None:
    """Tensors have exactly the manifest's names, and open axes stay open."""
    converted = to_ir(attention)
    assert (converted.inputs, converted.outputs) == (INPUTS, OUTPUTS)
    model = import_openvino().Core().read_model(str(attention.with_name("model.xml")))
    assert [port.get_names() for port in model.inputs] == [{"x"}]
    assert [port.get_names() for port in model.outputs] == [{"y"}]
    assert model.inputs[0].get_partial_shape()[1].is_dynamic


def test_weights_stay_float32_unless_asked(attention: Path) -> None:
    """OpenVINO compresses to half precision by default; we do when told."""
    to_ir(attention, "full.xml")
    to_ir(attention, "half.xml", compress_to_fp16=True)
    assert weight_types(attention.with_name("full.xml")) == {"f32"}
    assert weight_types(attention.with_name("half.xml")) == {"f16"}


@pytest.mark.parametrize("options", [{}, {"compress_to_fp16": True}, {"static": {"batch": 1}}])
def test_same_input_gives_the_same_bytes(attention: Path, options: dict[str, object]) -> None:
    """Neither the folder nor what the process converted before is in the files."""
    for folder in ("one", "two"):
        (attention.parent / folder).mkdir()
        to_ir(attention, f"{folder}/model.xml", **options)
    for name in ("model.xml", "model.bin"):
        one, two = (sha256_file(attention.parent / folder / name) for folder in ("one", "two"))
        assert one == two


def test_nodes_inside_branches_are_named_too(tmp_path: Path) -> None:
    """A graph with If is the same on every conversion, and its inner operators are counted."""
    inputs = (TensorSpec("c", "bool", ()), TensorSpec("x", "float32", ("n",)))
    outputs = (TensorSpec("y", "float32", ("n",)),)
    branch = [
        helper.make_graph(
            [
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
                helper.make_node(kind, ["x", "f"], [kind]),
            ],
            kind,
            [],
            [helper.make_tensor_value_info(kind, TensorProto.FLOAT, None)],
        )
        for kind in ("Mul", "Add")
    ]
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1])],
        "tiny",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "if.onnx")
    hashes = set()
    for name in ("a.xml", "b.xml"):
        converted = convert(tmp_path / "if.onnx", tmp_path / name, inputs=inputs, outputs=outputs)
        hashes.add(sha256_file(tmp_path / name))
    assert len(hashes) == 1
    assert converted.operators["Multiply"] == 1


def test_no_path_of_the_build_machine(attention: Path) -> None:
    """The folder of the source is not in the IR."""
    to_ir(attention)
    text = attention.with_name("model.xml").read_text()
    assert str(attention.parent) not in text
    assert "/tmp" not in text
    assert str(Path.home()) + "/" not in text


def test_static_sizes_reach_the_outputs(attention: Path) -> None:
    """Fixed inputs fix what depends on them; what was not named stays open."""
    both = to_ir(attention, static={"batch": 2, "sequence": 5})
    assert both.inputs[0].shape == both.outputs[0].shape == (2, 5, 8)
    one = to_ir(attention, static={"sequence": 5})
    assert one.outputs[0].shape == ("batch", 5, 8)


def test_ir_is_converted_again(attention: Path) -> None:
    """An IR can be the source: only its shapes change."""
    to_ir(attention, "first.xml")
    again = convert(
        attention.with_name("first.xml"),
        attention.with_name("second.xml"),
        inputs=INPUTS,
        outputs=OUTPUTS,
        static={"batch": 1, "sequence": 4},
    )
    assert again.inputs[0].shape == (1, 4, 8)
    assert again.attention == 1


def test_external_weights_come_along(attention: Path) -> None:
    """Weights beside the ONNX file end up in the .bin."""
    model = onnx.load(attention)
    onnx.save(
        model, attention, save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    to_ir(attention)
    attention.with_name("model.onnx.data").unlink()
    assert weight_types(attention.with_name("model.xml")) == {"f32"}


def test_frozen_axis_is_refused(tmp_path: Path) -> None:
    """An axis that the manifest calls open and the graph fixed is a CompileError."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    source = save(tmp_path, [node], inputs=(TensorSpec("x", "float32", ("batch", 3, 8)),))
    with pytest.raises(CompileError, match=r"froze the axis sequence of x .* at 3"):
        to_ir(source)


def test_missing_output_is_refused(attention: Path) -> None:
    """A manifest that names an output which is not there is told which."""
    outputs = (*OUTPUTS, TensorSpec("z", "float32", ("batch",)))
    with pytest.raises(CompileError, match="its output 'z' is gone"):
        convert(attention, attention.with_suffix(".xml"), inputs=INPUTS, outputs=outputs)


def test_unknown_operator_is_refused(tmp_path: Path) -> None:
    """What OpenVINO cannot convert is a CompileError without paths of its sources."""
    source = save(tmp_path, [helper.make_node("Nonsense", ["x"], ["y"], domain="example.org")])
    with pytest.raises(CompileError, match=r"does not take model\.onnx") as caught:
        to_ir(source)
    assert "src/" not in caught.value.message
    assert not source.with_suffix(".xml").exists()


def test_missing_package_names_the_extra(attention: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenVINO the remedy is the pip line."""
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingDependency, match=r"not installed") as caught:
        to_ir(attention)
    assert "[openvino]" in str(caught.value.hint)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_is_told(attention: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO says only "iostream error"; the message says that the disk is full."""
    usage = os.statvfs(attention.parent)
    monkeypatch.setattr(
        disk.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 0, "of": usage})
    )
    with files_up_to(64), pytest.raises(CompileError, match=r"The disk is full while writing"):
        to_ir(attention)


def test_other_write_errors_are_told(attention: Path) -> None:
    """A write that fails with room on the disk is a CompileError that names the file."""
    attention.with_suffix(".xml").mkdir()
    with pytest.raises(CompileError, match=r"cannot write model\.xml"):
        to_ir(attention)
