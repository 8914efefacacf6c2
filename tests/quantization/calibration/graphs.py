"""Small graphs to look inside of, and what goes into them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.core.manifest import TensorSpec
from tests.runtime.conftest import Graph

Feeds = dict[str, NDArray[np.float32]]


def two_layers(folder: Path, *, external: bool = False, width: int = 16) -> Path:
    """x [rows, 4] → MatMul → h → Relu → r → MatMul → y; also x → Log → log, x → Shape → shape."""
    random = np.random.default_rng(0)
    graph = Graph([TensorSpec("x", "float32", ("rows", 4))], [TensorSpec("y", "float32", ())])
    graph.outputs[0] = TensorSpec("y", "float32", ("rows", 2))
    graph.weight("w", random.normal(size=(4, width)).astype(np.float32))
    graph.weight("v", random.normal(size=(width, 2)).astype(np.float32))
    graph.op("MatMul", "x", "w", to="h")
    graph.op("Relu", "h", to="r")
    graph.op("MatMul", "r", "v", to="y")
    graph.op("Log", "x", to="log")
    graph.op("Shape", "x", to="shape")
    graph.op("Compress", "x", "none", to="nothing", axis=0)
    graph.weight("none", np.array([False]))
    path = folder / "model.onnx"
    onnx.save(graph.model(), str(path), save_as_external_data=external,
              location="model.onnx.data", size_threshold=0)  # fmt: skip
    return path


def samples(count: int, *, seed: int = 0) -> list[Feeds]:
    """Inputs of different lengths."""
    random = np.random.default_rng(seed)
    return [
        {"x": random.normal(size=(1 + number % 5, 4)).astype(np.float32)} for number in range(count)
    ]


def computed(folder: Path, rows: list[Feeds]) -> dict[str, list[NDArray[np.float32]]]:
    """The inner tensors of `two_layers`, by numpy."""
    weights = {
        one.name: onnx.numpy_helper.to_array(one)
        for one in onnx.load(str(folder / "model.onnx")).graph.initializer
    }
    h = [row["x"] @ weights["w"] for row in rows]
    r = [np.maximum(one, 0) for one in h]
    return {"x": [row["x"] for row in rows], "h": h, "r": r, "y": [one @ weights["v"] for one in r]}
