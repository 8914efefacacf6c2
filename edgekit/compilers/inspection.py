"""What an ONNX file holds, as far as a compiler must know before it touches it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import CompileError
from edgekit.core.lazy import require
from edgekit.graph.onnx_nodes import all_nodes, stored_tensors
from edgekit.graph.onnx_precision import precision_of

if TYPE_CHECKING:
    import onnx

_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_CONVOLUTIONS = ("Conv", "FusedConv", "ConvTranspose")
_PRODUCTS = ("MatMul", "Gemm", "Einsum", "Attention", "GroupQueryAttention", "GRU", "LSTM", "RNN")


@dataclass(frozen=True)
class GraphSummary:
    """The nodes of a graph and its subgraphs, counted.

    ``foreign`` holds the operators outside the ONNX standard, as ``domain:name``; ``quantized`` is
    "int8", "int4" or None; ``half`` says whether its floats are in half precision; ``traces``
    whether nodes carry notes of where they come from, which may hold paths of the build machine.
    """

    opset: int
    operators: Mapping[str, int]
    foreign: tuple[str, ...]
    quantized: str | None
    half: bool
    traces: bool

    @property
    def convolutions(self) -> int:
        """How many convolutions there are, fused with what follows them or not."""
        return sum(count for name, count in self.operators.items() if name in _CONVOLUTIONS)

    @property
    def products(self) -> int:
        """How many other operators multiply matrices."""
        return sum(count for name, count in self.operators.items() if name in _PRODUCTS)

    @property
    def attention(self) -> int:
        """How many attention operators there are (opset 23 on, or ONNX Runtime's own)."""
        return self.operators.get("Attention", 0) + self.grouped

    @property
    def grouped(self) -> int:
        """How many of them keep their cache in buffers."""
        return self.operators.get("GroupQueryAttention", 0)


def load_graph(path: Path, *, weights: bool) -> onnx.ModelProto:
    """The ONNX model of a file, with or without its external weights.

    Raises CompileError when it is not one, MissingDependency without the onnx package.
    """
    package = require("onnx", "build")
    try:
        model: onnx.ModelProto = package.load(str(path), load_external_data=weights)
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise CompileError(
            f"{path.name} is not a readable ONNX file: {error}.", hint="Export the bundle again."
        ) from error
    return model


def summarise(model: onnx.ModelProto) -> GraphSummary:
    """The summary of a loaded model."""
    operators: Counter[str] = Counter()
    foreign: set[str] = set()
    traces = bool(model.metadata_props or model.graph.doc_string)
    for node in nodes(model):
        operators[node.op_type] += 1
        if node.domain not in _STANDARD:
            foreign.add(f"{node.domain}:{node.op_type}")
        traces = traces or bool(node.metadata_props or node.doc_string)
    precision = precision_of(nodes(model), stored_tensors(model))
    return GraphSummary(
        opset=next((item.version for item in model.opset_import if item.domain in _STANDARD), 0),
        operators=dict(operators),
        foreign=tuple(sorted(foreign)),
        quantized=precision if precision in ("int8", "int4") else None,
        half=precision == "fp16",
        traces=traces,
    )


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the model: of its graph, of functions and of the graphs inside nodes."""
    yield from all_nodes(model.graph.node)
    for function in model.functions:
        yield from all_nodes(function.node)
