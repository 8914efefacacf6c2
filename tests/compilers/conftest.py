"""Small exported bundles, built node by node: an attention layer over tokens, and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.manifest import Component, Manifest, Requires, TensorSpec

VOCABULARY, HIDDEN, HEADS = 40, 16, 4
MAX_LENGTH = 32
Builder = Callable[..., Bundle]

PROCESSOR: Mapping[str, object] = {
    "kind": "text",
    "tokenizer": "tokenizer.json",
    "max_length": MAX_LENGTH,
    "truncation": {"strategy": "longest_first", "side": "right", "stride": 0},
    "padding": {"side": "right", "token": "[PAD]", "id": 7, "type_id": 0},
    "inputs": ["input_ids", "attention_mask"],
    "post": {"kind": "hidden-states"},
}


def attention_model(*, opset: int = 23) -> tuple[onnx.ModelProto, Component]:
    """Embedding, one attention with a padding mask, and a projection with GELU."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.standard_normal(shape) / np.sqrt(shape[-1])
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"], name="/embed/Gather"),
        *(
            helper.make_node("MatMul", ["embedded", f"w_{part}"], [part], name=f"/{part}/MatMul")
            for part in "qkv"
        ),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.BOOL),
        # ONNX Runtime wants a row of the mask for every query.
        helper.make_node("Unsqueeze", ["attention_mask", "across"], ["column"]),
        helper.make_node("Equal", ["column", "column"], ["every"]),
        helper.make_node("Unsqueeze", ["seen", "along"], ["keys"]),
        helper.make_node("And", ["every", "keys"], ["mask"]),
        helper.make_node(
            "Attention",
            ["q", "k", "v", "mask"],
            ["context"],
            q_num_heads=HEADS,
            kv_num_heads=HEADS,
        ),
        helper.make_node("MatMul", ["context", "w_o"], ["projected"]),
        helper.make_node("Add", ["projected", "b_o"], ["shifted"]),
        helper.make_node("Gelu", ["shifted"], ["last_hidden_state"]),
    ]
    weights = [
        weight("table", VOCABULARY, HIDDEN),
        *(weight(f"w_{part}", HIDDEN, HIDDEN) for part in "qkvo"),
        weight("b_o", HIDDEN),
        numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "along"),
        numpy_helper.from_array(np.array([1, 3], dtype=np.int64), "across"),
    ]
    component = Component(
        "onnx",
        ("model.onnx",),
        tuple(
            TensorSpec(name, "int64", ("batch", "sequence"))
            for name in ("input_ids", "attention_mask")
        ),
        (TensorSpec("last_hidden_state", "float32", ("batch", "sequence", HIDDEN)),),
    )
    return make_model(nodes, weights, component, opset=opset), component


def conv_model() -> tuple[onnx.ModelProto, Component]:
    """Two convolutions: what ONNX Runtime lays out in blocks."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("first", (16, 1, 3, 3)), ("second", (32, 16, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["y"], pads=[1, 1, 1, 1]),
    ]
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 1, 12, 12)),),
        (TensorSpec("y", "float32", ("batch", 32, 12, 12)),),
    )
    return make_model(nodes, weights, component), component


def foreign_model() -> tuple[onnx.ModelProto, Component]:
    """A graph with an operator that only ONNX Runtime has."""
    nodes = [helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft")]
    weights = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")]
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 4)),),
        (TensorSpec("y", "float32", ("batch", 4)),),
    )
    return make_model(nodes, weights, component, foreign=True), component


def quantized_model() -> tuple[onnx.ModelProto, Component]:
    """A matrix multiplication whose weight is stored in 8 bits."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.arange(-32, 32, dtype=np.int8).reshape(8, 8), "w8"),
        numpy_helper.from_array(np.array(0.1, dtype=np.float32), "scale"),
    ]
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 8)),),
        (TensorSpec("y", "float32", ("batch", 8)),),
    )
    return make_model(nodes, weights, component), component


def make_model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    component: Component,
    *,
    opset: int = 23,
    foreign: bool = False,
) -> onnx.ModelProto:
    """The model of some nodes, with the component's inputs and outputs."""
    types = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}

    def info(spec: TensorSpec) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(spec.name, types[spec.dtype], list(spec.shape))

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(spec) for spec in component.inputs],
        [info(spec) for spec in component.outputs],
        weights,
    )
    opsets = [helper.make_opsetid("", opset)]
    if foreign:
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return model


def feeds(batch: int = 2, length: int = 9) -> dict[str, np.ndarray]:
    """Token ids with one padded row."""
    random = np.random.default_rng(1)
    mask = np.ones((batch, length), dtype=np.int64)
    mask[-1, length // 2 :] = 0
    ids = random.integers(0, VOCABULARY, (batch, length))
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    """Writes a model as a bundle; keyword arguments replace fields of its manifest."""

    def write(
        made: tuple[onnx.ModelProto, Component], name: str = "exported", **changes: object
    ) -> Bundle:
        model, component = made
        manifest = Manifest(
            name=name,
            created_by="edgekit tests",
            stage="exported",
            task="custom",
            source=None,
            components={"model": component},
            requires=Requires("onnxruntime", extras=("ort",)),
        )
        with BundleWriter(tmp_path / name) as writer:
            onnx.save(model, str(writer.add("model.onnx", "component")))
            if "processor" in changes:
                writer.add("tokenizer.json", "processor").write_text("{}")
            writer.stage(replace(manifest, **changes))
            return writer.commit()

    return write
