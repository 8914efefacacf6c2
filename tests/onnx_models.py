"""Small ONNX files as somebody else might have written them, sound ones and others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
Dims = Sequence[int | str | None] | None


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Dims]],
    outputs: Mapping[str, tuple[int, Dims]],
    weights: Mapping[str, NDArray[np.generic]] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these parts, not checked: some are to be refused."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def linear(dims: Dims = ("batch", 4), *, kind: int = FLOAT, **options: int) -> onnx.ModelProto:
    """``y = relu(x @ w) @ v``, with a class for each of three columns."""
    random = np.random.default_rng(1)
    dtype = np.float16 if kind == HALF else np.float32
    last = "batch" if dims is not None and dims and isinstance(dims[0], str) else None
    return model(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
        ],
        {"x": (kind, dims)},
        {"y": (kind, (last, 3))},
        {
            "w": random.normal(size=(4, 32)).astype(dtype),
            "v": random.normal(size=(32, 3)).astype(dtype),
        },
        **options,
    )


def counter() -> onnx.ModelProto:
    """A model with state: what it has heard so far goes in and comes out."""
    return model(
        [
            helper.make_node("Add", ["state", "x"], ["next"]),
            helper.make_node("ReduceMean", ["next"], ["mean"], axes=[1], keepdims=1),
        ],
        {"x": (FLOAT, ("batch", 4)), "state": (FLOAT, ("batch", 4))},
        {"mean": (FLOAT, ("batch", 1)), "next": (FLOAT, ("batch", 4))},
    )


def recurrent(*, forgetful: bool = False) -> onnx.ModelProto:
    """A recurrent layer with its state in and out; a forgetful one has lost what it multiplies."""
    random = np.random.default_rng(2)
    weights = {
        "w": random.normal(size=(1, 5, 4)).astype(np.float32),
        "r": random.normal(size=(1, 5, 5)).astype(np.float32) * (not forgetful),
    }
    return model(
        [helper.make_node("RNN", ["x", "w", "r", "", "", "state"], ["", "stateN"], hidden_size=5)],
        {"x": (FLOAT, (1, 1, 4)), "state": (FLOAT, (1, 1, 5))},
        {"stateN": (FLOAT, (1, 1, 5))},
        weights,
    )


def findings() -> onnx.ModelProto:
    """Where an input is above 100, which noise never is, and the input without what is below 0."""
    return model(
        [
            helper.make_node("Relu", ["x"], ["y"]),
            helper.make_node("Greater", ["x", "bound"], ["above"]),
            helper.make_node("NonZero", ["above"], ["places"]),
        ],
        {"x": (FLOAT, ("batch", 8))},
        {"y": (FLOAT, ("batch", 8)), "places": (INT64, (2, None))},
        {"bound": np.array(100, np.float32)},
    )


def masked() -> onnx.ModelProto:
    """Scores, and scores of classes that are ruled out."""
    return model(
        [
            helper.make_node("Relu", ["x"], ["y"]),
            helper.make_node("Sub", ["x", "x"], ["nothing"]),
            helper.make_node("Log", ["nothing"], ["ruled"]),
        ],
        {"x": (FLOAT, ("batch", 8))},
        {"y": (FLOAT, ("batch", 8)), "ruled": (FLOAT, ("batch", 8))},
    )


def switched() -> onnx.ModelProto:
    """One of two branches, by a sampling rate."""

    def branch(kind: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(kind, ["x"], ["out"])],
            kind,
            [],
            [helper.make_tensor_value_info("out", FLOAT, ("batch", 4))],
        )

    return model(
        [
            helper.make_node("Equal", ["sr", "usual"], ["is_usual"]),
            helper.make_node(
                "If", ["is_usual"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg")
            ),
        ],
        {"x": (FLOAT, ("batch", 4)), "sr": (INT64, ()), "times": (INT64, ())},
        {"y": (FLOAT, ("batch", 4))},
        {"usual": np.array(16_000, np.int64)},
    )


def custom_operator() -> onnx.ModelProto:
    """A node of somebody's own domain."""
    return model(
        [helper.make_node("Whiten", ["x"], ["y"], domain="acme.ops")],
        {"x": (FLOAT, ("batch", 4))},
        {"y": (FLOAT, ("batch", 4))},
        domains={"acme.ops": 1},
    )


def pictures() -> onnx.ModelProto:
    """Classes of small pictures: the mean of each channel, weighted."""
    return model(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        {"pixels": (FLOAT, ("batch", 3, 8, 8))},
        {"logits": (FLOAT, ("batch", 3))},
        {"w": np.eye(3, dtype=np.float32) * 4},
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    """The model in one file."""
    path.write_bytes(model.SerializeToString())
    return path


def save_outside(model: onnx.ModelProto, path: Path, location: str = "weights.data") -> Path:
    """The model with its weights in another file beside it."""
    onnx.save(
        model, str(path), save_as_external_data=True, location=location, size_threshold=0,
        convert_attribute=False,
    )  # fmt: skip
    return path


def point_to(path: Path, change: Callable[[dict[str, str]], None]) -> Path:
    """The saved model with another description of where its weights are."""
    found = onnx.load(str(path), load_external_data=False)
    for tensor in found.graph.initializer:
        told = {entry.key: entry.value for entry in tensor.external_data}
        change(told)
        del tensor.external_data[:]
        for key, value in told.items():
            tensor.external_data.add(key=key, value=value)
    return save(found, path)


PROCESSOR = """
labels = ["red", "green", "blue"]
post = { kind = "image-classification" }
ops = [
  { op = "resize", size = { height = 8, width = 8 } },
  { op = "rescale", factor = 0.00392156862745098 },
]
"""
