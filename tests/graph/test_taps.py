"""Graphs whose inner tensors are outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.graph.openvino import convert
from edgekit.graph.taps import onnx_tensors, tensor_names, write_tapped
from edgekit.runtime.engines import find_engine
from tests.runtime.conftest import Graph

INPUTS = (TensorSpec("x", "float32", ("batch", 4)),)
OUTPUTS = (TensorSpec("y", "float32", ("batch", 2)),)


def two_layers(folder: Path, *, external: bool = False) -> Component:
    """x → MatMul → h → Relu → r → MatMul → y, written into a folder."""
    generator = np.random.default_rng(0)
    graph = Graph(list(INPUTS), list(OUTPUTS))
    graph.weight("w", generator.normal(size=(4, 512)).astype(np.float32))
    graph.weight("v", generator.normal(size=(512, 2)).astype(np.float32))
    graph.op("MatMul", "x", "w", to="h")
    graph.op("Relu", "h", to="r")
    graph.op("MatMul", "r", "v", to="y")
    files = ("model.onnx", "model.onnx.data") if external else ("model.onnx",)
    onnx.save(graph.model(), str(folder / "model.onnx"), save_as_external_data=external,
              location="model.onnx.data", size_threshold=0)  # fmt: skip
    return Component("onnx", files, INPUTS, OUTPUTS)


def run(component: Component, folder: Path, engine: str) -> dict[str, np.ndarray]:
    """The outputs of three rows."""
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    session = find_engine(engine).open_session(
        folder, component, options={}, device="cpu", threads=1
    )
    try:
        return session.run({"x": x})
    finally:
        session.close()


def test_what_the_operators_make(tmp_path: Path) -> None:
    """In order, with the operator and the bytes at the sizes given."""
    component = two_layers(tmp_path)
    found = onnx_tensors(tmp_path / "model.onnx", {"batch": 3})
    assert [(one.name, one.operator) for one in found] == [
        ("h", "MatMul"), ("r", "Relu"), ("y", "MatMul"),
    ]  # fmt: skip
    assert [one.bytes for one in found] == [3 * 512 * 4, 3 * 512 * 4, 3 * 2 * 4]
    assert tensor_names(component, tmp_path) == {"h", "r", "y"}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("kind", ["onnx", "openvino-ir"])
def test_inner_tensors_come_out(tmp_path: Path, kind: str, external: bool) -> None:
    """In any order, with weights inside or beside the graph, and the graph's own output too."""
    source, target = tmp_path / "s", tmp_path / "t"
    source.mkdir()
    target.mkdir()
    component = two_layers(source, external=external)
    engine = "onnxruntime"
    if kind == "openvino-ir":
        convert(source / "model.onnx", source / "model.xml", inputs=INPUTS, outputs=OUTPUTS)
        component = Component(kind, ("model.xml", "model.bin"), INPUTS, OUTPUTS)
        engine = "openvino"
        assert {"h", "r", "y"} <= tensor_names(component, source)
    plain = run(component, source, engine)["y"]
    found = run(write_tapped(component, source, ["r", "y", "h"], target), target, engine)
    assert set(found) == {"r", "y", "h"}
    np.testing.assert_array_equal(found["r"], np.maximum(found["h"], 0))
    np.testing.assert_allclose(found["y"], plain, rtol=1e-2, atol=1e-2)
    assert (source / "model.onnx").exists()


def test_another_format_is_refused(tmp_path: Path) -> None:
    """Nobody knows its tensors."""
    component = two_layers(tmp_path)
    with pytest.raises(ConfigError, match="tflite"):
        write_tapped(
            Component("tflite", component.files, INPUTS, OUTPUTS), tmp_path, ["h"], tmp_path
        )
