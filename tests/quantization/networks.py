"""Small float graphs as bundles: an encoder layer with outliers, and a network of convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.manifest import Component, Manifest, Requires, TensorSpec
from edgekit.core.profiles import Profile, load_profile

VOCABULARY, HIDDEN, INNER = 640, 32, 64
Made = tuple[onnx.ModelProto, Component]
Feeds = Mapping[str, NDArray[np.generic]]

VNNI = replace(load_profile("cpu-x86"), name="vnni", features=("avx2", "fma", "avx512_vnni"))
NO_VNNI: Profile = load_profile("cpu-x86")


class Weights:
    """Initializers of a graph while it is built."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.held: list[onnx.TensorProto] = []

    def add(self, name: str, *shape: int, spread: float | None = None) -> str:
        """Normal numbers that keep the size of what they multiply."""
        scale = spread if spread is not None else 1 / np.sqrt(shape[0])
        values = self.random.standard_normal(shape) * scale
        return self.put(name, values.astype(np.float32))

    def put(self, name: str, values: NDArray[np.generic]) -> str:
        """The given numbers."""
        self.held.append(numpy_helper.from_array(np.asarray(values), name))
        return name


def encoder(*, tied: bool = False, opset: int = 23) -> Made:
    """An embedding, one layer as BERT's (its attention an average), and a Gemm head of 8.

    Two channels of the normalised tensors are 30 times as large as the others. With `tied` another
    output is the product with the turned embedding table.
    """
    weights = Weights()
    node = helper.make_node
    large = np.ones(HIDDEN, dtype=np.float32)
    large[[3, 17]] = 30
    weights.add("table", VOCABULARY, HIDDEN, spread=1.0)
    for norm in ("norm1", "norm2"):
        weights.put(f"{norm}.scale", large)
        weights.put(f"{norm}.bias", np.zeros(HIDDEN, dtype=np.float32))
    layer = "/encoder/layer/0"
    nodes = [
        node("Gather", ["table", "input_ids"], ["embedded"], name="/words/Gather"),
        node("LayerNormalization", ["embedded", "norm1.scale", "norm1.bias"], ["x"], name="/norm1"),
    ]
    for part in ("query", "key", "value"):
        weights.add(f"{part}.weight", HIDDEN, HIDDEN)
        weights.add(f"{part}.bias", HIDDEN, spread=0.1)
        name = f"{layer}/attention/self/{part}"
        nodes += [
            node("MatMul", ["x", f"{part}.weight"], [f"{part}.product"], name=f"{name}/MatMul"),
            node("Add", [f"{part}.product", f"{part}.bias"], [part], name=f"{name}/Add"),
        ]
    weights.add("inner.weight", HIDDEN, INNER)
    weights.add("inner.bias", INNER, spread=0.1)
    weights.add("outer.weight", INNER, HIDDEN)
    weights.add("outer.bias", HIDDEN, spread=0.1)
    weights.add("head.weight", 8, HIDDEN, spread=0.2)
    weights.add("head.bias", 8, spread=0.1)
    weights.put("first", np.array([1], dtype=np.int64))
    nodes += [
        node("Mul", ["query", "key"], ["scores"], name=f"{layer}/attention/self/Mul"),
        node("Tanh", ["scores"], ["shares"], name=f"{layer}/attention/self/Tanh"),
        node("Mul", ["shares", "value"], ["context"], name=f"{layer}/attention/self/Mul_1"),
        node("Add", ["context", "x"], ["mixed"], name=f"{layer}/attention/Add"),
        node(
            "LayerNormalization",
            ["mixed", "norm2.scale", "norm2.bias"],
            ["y"],
            name=f"{layer}/attention/output/LayerNorm",
        ),
        node("MatMul", ["y", "inner.weight"], ["wide"], name=f"{layer}/intermediate/dense/MatMul"),
        node("Add", ["wide", "inner.bias"], ["wider"], name=f"{layer}/intermediate/dense/Add"),
        node("Gelu", ["wider"], ["bent"], name=f"{layer}/intermediate/Gelu"),
        node("MatMul", ["bent", "outer.weight"], ["narrow"], name=f"{layer}/output/dense/MatMul"),
        node("Add", ["narrow", "outer.bias"], ["layer_out"], name=f"{layer}/output/dense/Add"),
        node("ReduceMean", ["layer_out", "first"], ["pooled"], keepdims=0, name="/pool"),
        node(
            "Gemm", ["pooled", "head.weight", "head.bias"], ["logits"], transB=1, name="/head/Gemm"
        ),
    ]
    outputs = [TensorSpec("logits", "float32", ("batch", 8))]
    if tied:
        nodes += [
            node("Transpose", ["table"], ["turned"], perm=[1, 0], name="/turn"),
            node("MatMul", ["layer_out", "turned"], ["words"], name="/decoder/MatMul"),
        ]
        outputs.append(TensorSpec("words", "float32", ("batch", "sequence", VOCABULARY)))
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("input_ids", "int64", ("batch", "sequence")),),
        tuple(outputs),
    )
    return model_of(nodes, weights, component, opset=opset), component


def pictures() -> Made:
    """Three convolutions, a sum of two of them, pooling, and two Gemm with a ReLU between."""
    weights = Weights(1)
    node = helper.make_node
    for name, leaving, entering in (("c1", 16, 3), ("c2", 16, 16), ("c3", 16, 16)):
        weights.add(f"{name}.weight", leaving, entering, 3, 3, spread=1 / np.sqrt(9 * entering))
        weights.add(f"{name}.bias", leaving, spread=0.1)
    weights.add("f1.weight", 24, 256, spread=1 / 16)
    weights.add("f1.bias", 24, spread=0.1)
    weights.add("f2.weight", 10, 24, spread=0.2)
    weights.add("f2.bias", 10, spread=0.1)

    def conv(name: str, entering: str, leaving: str) -> onnx.NodeProto:
        inputs = [entering, f"{name}.weight", f"{name}.bias"]
        return node("Conv", inputs, [leaving], pads=[1, 1, 1, 1], name=f"/{name}/Conv")

    nodes = [
        conv("c1", "image", "a"),
        node("Relu", ["a"], ["b"], name="/c1/Relu"),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2], name="/MaxPool"),
        conv("c2", "c", "d"),
        node("Relu", ["d"], ["e"], name="/c2/Relu"),
        conv("c3", "e", "f"),
        node("Add", ["f", "c"], ["g"], name="/Add"),
        node("Relu", ["g"], ["h"], name="/Relu"),
        node("Flatten", ["h"], ["i"], name="/Flatten"),
        node("Gemm", ["i", "f1.weight", "f1.bias"], ["j"], transB=1, name="/f1/Gemm"),
        node("Relu", ["j"], ["k"], name="/f1/Relu"),
        node("Gemm", ["k", "f2.weight", "f2.bias"], ["scores"], transB=1, name="/f2/Gemm"),
    ]
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("image", "float32", ("batch", 3, 8, 8)),),
        (TensorSpec("scores", "float32", ("batch", 10)),),
    )
    return model_of(nodes, weights, component), component


def leaving() -> Made:
    """Four convolutions in a row, whose answers are outputs as they are, turned and averaged."""
    weights = Weights(2)
    node = helper.make_node
    nodes: list[onnx.NodeProto] = []
    entering = "image"
    for number, channels in ((1, 3), (2, 32), (3, 32), (4, 32)):
        name = f"c{number}"
        weights.add(f"{name}.weight", 32, channels, 3, 3, spread=1 / np.sqrt(9 * channels))
        weights.add(f"{name}.bias", 32, spread=0.1)
        inputs = [entering, f"{name}.weight", f"{name}.bias"]
        nodes.append(node("Conv", inputs, [name], pads=[1, 1, 1, 1], name=f"/{name}/Conv"))
        entering = name
    nodes += [
        node("Identity", ["c2"], ["middle"], name="/middle"),
        node("Transpose", ["c2"], ["turned"], perm=[0, 2, 3, 1], name="/turn"),
        node("Flatten", ["turned"], ["moved"], name="/flatten"),
        node("AveragePool", ["c3"], ["pooled"], kernel_shape=[2, 2], name="/pool"),
        node("Identity", ["c4"], ["last"], name="/last"),
    ]
    shapes = {"middle": (32, 8, 8), "moved": (2048,), "pooled": (32, 7, 7), "last": (32, 8, 8)}
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("image", "float32", ("batch", 3, 8, 8)),),
        tuple(TensorSpec(name, "float32", ("batch", *dims)) for name, dims in shapes.items()),
    )
    return model_of(nodes, weights, component), component


def model_of(
    nodes: Sequence[onnx.NodeProto], weights: Weights, component: Component, *, opset: int = 23
) -> onnx.ModelProto:
    """The checked model of some nodes."""
    types = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}

    def info(spec: TensorSpec) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(spec.name, types[spec.dtype], list(spec.shape))

    graph = helper.make_graph(
        nodes,
        "small",
        [info(spec) for spec in component.inputs],
        [info(spec) for spec in component.outputs],
        weights.held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def bundle_of(made: Made, folder: Path) -> Bundle:
    """The model as an exported bundle."""
    model, component = made
    manifest = Manifest(
        name=folder.name,
        created_by="edgekit tests",
        stage="exported",
        task="custom",
        source=None,
        components={"model": component},
        requires=Requires("onnxruntime", extras=("ort",)),
    )
    with BundleWriter(folder) as writer:
        onnx.save(model, str(writer.add("model.onnx", "component")))
        writer.stage(manifest)
        return writer.commit()


def texts(count: int = 12, seed: int = 5) -> list[Feeds]:
    """Token ids of texts of many lengths, one text a call."""
    random = np.random.default_rng(seed)
    return [
        {"input_ids": random.integers(0, VOCABULARY, (1, length))}
        for length in random.integers(3, 20, count)
    ]


def images(count: int = 12, seed: int = 6) -> list[Feeds]:
    """Noise, one picture a call."""
    random = np.random.default_rng(seed)
    return [
        {"image": random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)
    ]
