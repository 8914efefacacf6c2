"""graph/onnx_precision.py: what a graph was converted to, alike for import, compile and bench."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgekit.compilers.inspection import summarise
from edgekit.core.onnx_file import model_files
from edgekit.graph.onnx_foreign import read_foreign
from edgekit.runtime.raw import raw_precision
from tests.onnx_models import FLOAT, model, save

W = np.ones((4, 4), np.float32)


def made(
    operator: str, weights: dict[str, NDArray[np.generic]], **attributes: int
) -> onnx.ModelProto:
    """A node of an operator beside a layer."""
    domain = "" if "Linear" in operator or operator == "MatMul" else "com.microsoft"
    return model(
        [helper.make_node(operator, ["x", *weights], ["y"], domain=domain, **attributes)],
        {"x": (FLOAT, ("batch", 4))},
        {"y": (FLOAT, ("batch", 4))},
        weights,
    )


@pytest.mark.parametrize(
    ("graph", "precision"),
    [
        (made("MatMul", {"w": W}), "fp32"),
        (made("DequantizeLinear", {"w": W}), "int8"),
        (made("QLinearMatMul", {"w": W}), "int8"),
        (made("QGemm", {"w": W}), "int8"),
        (made("QAttention", {"w": W}), "int8"),
        (made("MatMulNBits", {"w": W}), "int4"),
        (made("MatMulNBits", {"w": W}, bits=4), "int4"),
        (made("MatMulBnb4", {"w": W}), "int4"),
        (made("GatherBlockQuantized", {"w": W}), "int4"),
    ],
)
def test_every_reader_tells_the_same(
    graph: onnx.ModelProto, precision: str, tmp_path: Path
) -> None:
    """Who imports, who compiles and who measures a bare file."""
    path = save(graph, tmp_path / "m.onnx")
    assert read_foreign(path, model_files(path)).precision == precision
    assert summarise(graph).quantized == (None if precision == "fp32" else precision)
    assert raw_precision(path) == precision


def test_blocks_of_eight_bits() -> None:
    """The attribute tells of how many."""
    assert summarise(made("MatMulNBits", {"w": W}, bits=8)).quantized == "int8"


@pytest.mark.parametrize(
    ("weights", "half"),
    [
        ({"w": W.astype(np.float16)}, True),
        ({"w": W, "epsilon": np.array(1e-5, np.float16)}, False),
        # A large table in float32 beside a halved layer.
        ({"w": W.astype(np.float16), "table": np.ones((100, 4), np.float32)}, True),
        ({"epsilon": np.array(1e-5, np.float16)}, True),
        ({}, False),
    ],
)
def test_layers_make_a_model_of_half_precision(
    weights: dict[str, NDArray[np.generic]], half: bool, tmp_path: Path
) -> None:
    """Scalars do not, where there are layers."""
    graph = made("MatMul", weights)
    assert summarise(graph).half is half
    path = save(graph, tmp_path / "m.onnx")
    assert (read_foreign(path, {}).precision == "fp16") is half


def test_four_bits_may_be_a_type() -> None:
    """Weights of INT4 under an operator that has no word of it."""
    graph = made("DequantizeLinear", {})
    graph.graph.initializer.append(helper.make_tensor("w", TensorProto.INT4, (2, 2), [1, 2, 3, 4]))
    assert summarise(graph).quantized == "int4"
