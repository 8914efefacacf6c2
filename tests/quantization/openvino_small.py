"""Small models quantized for OpenVINO, what they are run on, and how far answers are apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.core.manifest import Component, Requires, TensorSpec
from edgekit.core.profiles import load_profile
from edgekit.quantization.openvino import OpenVinoPrepared
from edgekit.quantization.recipes import Feeds, QuantizedComponent, Recipe
from edgekit.runtime.engines.openvino import open_session
from tests.compilers.conftest import feeds, make_model

PROFILE = load_profile("host")
STATIC = Recipe("int8-static", smooth=0.8, correction="fast")
Made = tuple[onnx.ModelProto, Component]
Prepare = Callable[..., OpenVinoPrepared]


def residual_model() -> Made:
    """Convolutions with biases, a pooling between two of them and a sum around one."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
        return numpy_helper.from_array(values.astype(np.float32), name)

    def conv(name: str, source: str, target: str) -> onnx.NodeProto:
        names = [source, f"{name}_w", f"{name}_b"]
        return helper.make_node("Conv", names, [target], name=name, pads=[1, 1, 1, 1])

    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("second", "c", "d"),
        helper.make_node("Add", ["c", "d"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        conv("third", "f", "y"),
    ]
    inner = {"first": 1, "second": 16, "third": 16}
    weights = [weight(f"{name}_w", 16, size, 3, 3) for name, size in inner.items()]
    weights += [weight(f"{name}_b", 16) for name in inner]
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 1, 12, 12)),),
        (TensorSpec("y", "float32", ("batch", 16, 6, 6)),),
    )
    return make_model(nodes, weights, component), component


def sentences(count: int = 12) -> list[Feeds]:
    """Rows of several lengths for `attention_model`."""
    return [feeds(2, 5 + row % 6) for row in range(count)]


def pictures(count: int = 12) -> list[Feeds]:
    """Rows for `residual_model`."""
    random = np.random.default_rng(3)
    return [{"x": random.standard_normal((2, 1, 12, 12)).astype(np.float32)} for _ in range(count)]


def outputs(folder: Path, written: QuantizedComponent, rows: Sequence[Feeds]) -> np.ndarray:
    """What a written component computes, as one vector."""
    options = {"precision_hint": "f32", **written.options}
    session = open_session(folder, written.component, options=options, device="cpu", threads=1)
    found = [array.ravel() for row in rows for array in session.run(row).values()]
    session.close()
    return np.concatenate(found)


def distance(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Squared error relative to the reference's squares."""
    return float(np.sum((reference - candidate) ** 2) / np.sum(reference**2))


def exact(prepared: OpenVinoPrepared, folder: Path, rows: Sequence[Feeds]) -> np.ndarray:
    """What the float graph computes."""
    part = prepared.source.manifest.components["model"]
    floats = replace(part, format="openvino-ir", files=(prepared.xml.name, "model-float.bin"))
    plain = QuantizedComponent(floats, {}, Requires("openvino"), "fp32", {}, ())
    return outputs(prepared.xml.parent, plain, rows)


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each file in a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("model.*")
    }
