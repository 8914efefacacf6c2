"""The repair of rotary embeddings left at batch 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.graph.onnx_rotary import expand_rotary_caches
from edgekit.graph.onnx_save import save_model
from edgekit.runtime.engines.onnxruntime import import_onnxruntime

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def _model(nodes: int = 2) -> ir.Model:
    """RotaryEmbedding, several times, with caches of batch 1 computed by Cos and Sin."""
    x = ir.Value(name="x", shape=ir.Shape(["batch", 2, "sequence", 4]), type=FLOAT)
    angles = ir.Value(name="angles", shape=ir.Shape([1, "sequence", 2]), type=FLOAT)
    cos, sin = ir.node("Cos", [angles]), ir.node("Sin", [angles])
    listed = [cos, sin]
    value = x
    for index in range(nodes):
        rotary = ir.node(
            "RotaryEmbedding",
            [value, cos.outputs[0], sin.outputs[0]],
            {"num_heads": 2},
            name=f"rotary_{index}",
        )
        rotary.outputs[0].shape = x.shape
        listed.append(rotary)
        value = rotary.outputs[0]
    value.name, value.type = "y", FLOAT
    graph = ir.Graph([x, angles], [value], nodes=listed, opset_imports={"": 23}, name="rotary")
    return ir.Model(graph, ir_version=10)


def _rotated(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    first, second = x[..., :2], x[..., 2:]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


@pytest.mark.parametrize("batch", [1, 3])
def test_repaired_graph_rotates_every_row(batch: int, tmp_path: Path) -> None:
    """ONNX Runtime agrees with the formula at batch 1 and above."""
    model = _model()
    assert expand_rotary_caches(model) == 2
    save_model(model, tmp_path / "m.onnx")
    session = import_onnxruntime().InferenceSession(str(tmp_path / "m.onnx"))
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch, 2, 5, 4)).astype(np.float32)
    angles = generator.standard_normal((1, 5, 2)).astype(np.float32)
    (got,) = session.run(None, {"x": x, "angles": angles})
    np.testing.assert_allclose(got, _rotated(_rotated(x, angles), angles), atol=1e-5)


def test_caches_are_expanded_once_for_all_layers() -> None:
    """Layers of one model share their caches, before and after."""
    model = _model(nodes=4)
    expand_rotary_caches(model)
    assert sum(node.op_type == "Expand" for node in model.graph) == 2


def test_repair_is_idempotent() -> None:
    """Caches that are expanded already are left alone."""
    model = _model()
    expand_rotary_caches(model)
    assert expand_rotary_caches(model) == 0
