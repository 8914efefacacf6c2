"""Streamed ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgekit.graph.onnx_save import save_model

WEIGHTS: dict[str, np.ndarray] = {
    "matrix": np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32),
    "turned": np.random.default_rng(1).standard_normal((50, 40)).astype(np.float32).T,
    "half": np.random.default_rng(2).standard_normal((30, 30)).astype(np.float16),
    "ids": np.arange(900, dtype=np.int64),
    "small": np.array([1.5, 2.5], np.float32),
}
TYPES = {"half": ir.DataType.FLOAT16, "ids": ir.DataType.INT64}


def _model() -> ir.Model:
    values = [
        ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(TYPES.get(name, ir.DataType.FLOAT)),
            const_value=ir.Tensor(array, name=name),
        )
        for name, array in WEIGHTS.items()
    ]
    x = ir.Value(name="x", shape=ir.Shape(["n", 50]), type=ir.TensorType(ir.DataType.FLOAT))
    transposed = ir.node("Transpose", [values[1]], {"perm": [1, 0]})
    matmul = ir.node("MatMul", [x, transposed.outputs[0]])
    matmul.outputs[0].name = "y"
    matmul.outputs[0].type = x.type
    matmul.outputs[0].shape = ir.Shape(["n", 40])
    graph = ir.Graph(
        [x],
        [matmul.outputs[0]],
        nodes=[transposed, matmul],
        initializers=values,
        opset_imports={"": 23},
        name="streamed",
    )
    return ir.Model(graph, ir_version=10, producer_name="edgekit")


@pytest.mark.parametrize("limit", [10**9, 0])
def test_saved_model_reads_back_bit_by_bit(limit: int, tmp_path: Path) -> None:
    """As one file and with external data, views in row-major order."""
    path = tmp_path / "model.onnx"
    names = save_model(_model(), path, inline_limit=limit)
    assert names == (("model.onnx",) if limit else ("model.onnx", "model.onnx.data"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(names)
    loaded = onnx.load(path)
    onnx.checker.check_model(str(path), full_check=True)
    assert loaded.producer_name == "edgekit"
    assert [node.op_type for node in loaded.graph.node] == ["Transpose", "MatMul"]
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}
    assert set(held) == set(WEIGHTS)
    for name, array in WEIGHTS.items():
        assert held[name].dtype == array.dtype
        np.testing.assert_array_equal(held[name], array)


def test_model_in_memory_is_left_as_it_was(tmp_path: Path) -> None:
    """Writing takes the weights out of the graph and puts them back."""
    model = _model()
    save_model(model, tmp_path / "a.onnx")
    save_model(model, tmp_path / "b.onnx")
    assert set(model.graph.initializers) == set(WEIGHTS)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second


def test_external_weights_start_at_pages(tmp_path: Path) -> None:
    """So that an engine can map them where they lie."""
    save_model(_model(), tmp_path / "model.onnx", inline_limit=0)
    loaded = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    offsets = [
        int(entry.value)
        for tensor in loaded.graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert len(offsets) == 4
    assert all(offset % 4096 == 0 for offset in offsets)


def test_small_tensors_stay_in_the_graph_file(tmp_path: Path) -> None:
    """Shapes and biases are read before any weight is."""
    save_model(_model(), tmp_path / "model.onnx", inline_limit=0)
    loaded = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    inline = [t.name for t in loaded.graph.initializer if not t.external_data]
    assert inline == ["small"]
