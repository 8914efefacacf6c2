"""A float graph that is quantized many times: its nodes in memory, its weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import QuantizeError, disk_errors
from edgekit.core.lazy import require
from edgekit.graph.onnx_nodes import reads
from edgekit.quantization.graphs.folding import fold_constants

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]
Ints = NDArray[Any]

# Smaller tensors stay in the graph's file: shapes, scalars, biases.
_SMALL = 1024
_STANDARD = frozenset({"", "ai.onnx"})
_QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger",
     "QLinearMatMul", "QLinearConv", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
)  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """A model whose large weights lie in a file beside ``path``; see `read_graph`.

    ``producers`` and ``readers`` are by tensor, in the graph's order; reads from inside a subgraph
    count as reads of the node that holds it.
    """

    path: Path
    model: onnx.ModelProto
    weights: Mapping[str, onnx.TensorProto]
    producers: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, tuple[onnx.NodeProto, ...]]
    opset: int

    @property
    def outputs(self) -> frozenset[str]:
        """The names of the graph's outputs."""
        return frozenset(str(value.name) for value in self.model.graph.output)

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return sum(int(np.prod(one.dims)) * 4 for one in self.weights.values())

    def is_float(self, name: str) -> bool:
        """Whether the name is that of a float32 weight."""
        weight = self.weights.get(name)
        return weight is not None and weight.data_type == 1

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a weight."""
        return tuple(int(size) for size in self.weights[name].dims)

    def array(self, name: str) -> Floats:
        """A weight, read from disk where it is large; not to be written to."""
        weight = self.weights[name]
        place = {entry.key: entry.value for entry in weight.external_data}
        if not place:
            values: Floats = require("onnx.numpy_helper", "build").to_array(weight)
            return values
        shape = self.shape(name)
        kind = require("onnx.helper", "build").tensor_dtype_to_np_dtype(weight.data_type)
        return np.fromfile(
            self.path.parent / place["location"],
            dtype=kind,
            count=int(np.prod(shape)),
            offset=int(place.get("offset", "0")),
        ).reshape(shape)


def read_graph(source: Path, directory: Path) -> Graph:
    """The graph of an ONNX file, copied into a folder with its weights apart.

    Constant nodes become weights, and copies by Identity what they are copies of. From there on no
    more than one weight at a time is in memory.

    Raises QuantizeError when it is not ONNX, or is quantized already.
    """
    onnx = require("onnx", "build")
    path = directory / "float.onnx"
    try:
        model = onnx.load(str(source))
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise QuantizeError(
            f"{source.name} is not a readable ONNX file: {error}.", hint="Export the bundle again."
        ) from error
    _refuse(model, source)
    # Shapes of what will be different types.
    del model.graph.value_info[:]
    # Before IR version 4 every weight had to be an input too.
    if model.ir_version >= 4:
        fold_constants(model.graph)
    _name_nodes(model.graph)
    with disk_errors(QuantizeError, "writing a copy of the graph to work on"):
        directory.mkdir(parents=True, exist_ok=True)
        data = f"{path.name}.data"
        # onnx appends to what is there.
        (directory / data).unlink(missing_ok=True)
        onnx.save(
            model,
            str(path),
            save_as_external_data=True,
            location=data,
            size_threshold=_SMALL,
        )
    del model
    return _indexed(path, onnx.load(str(path), load_external_data=False))


def _refuse(model: onnx.ModelProto, source: Path) -> None:
    found = sorted({node.op_type for node in model.graph.node} & _QUANTIZED)
    if found:
        raise QuantizeError(
            f"{source.name} is quantized already: it holds {', '.join(found)}.",
            hint="Start from the exported bundle.",
        )
    half = [one for one in model.graph.initializer if one.data_type in (10, 16)]
    if half and not any(
        one.data_type == 1 and len(one.dims) > 1 for one in model.graph.initializer
    ):
        raise QuantizeError(
            f"{source.name} is stored in 16 bits.", hint="Start from a float32 export."
        )


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: groups and notes refer to it."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or '/' + node.op_type}@{number}"
        taken.add(node.name)


def _indexed(path: Path, model: onnx.ModelProto) -> Graph:
    readers: dict[str, list[onnx.NodeProto]] = {}
    producers: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(reads(node)):
            readers.setdefault(name, []).append(node)
        producers.update(dict.fromkeys(filter(None, node.output), node))
    return Graph(
        path=path,
        model=model,
        weights={one.name: one for one in model.graph.initializer},
        producers=producers,
        readers={name: tuple(nodes) for name, nodes in readers.items()},
        opset=max(
            (item.version for item in model.opset_import if item.domain in _STANDARD), default=0
        ),
    )


def turned_table(graph: Graph, name: str) -> str | None:
    """The float matrix that a tensor is with its axes exchanged; None where it is something else.

    A head that is tied to the embeddings reads their table so.
    """
    maker = graph.producers.get(name)
    if maker is None or maker.op_type != "Transpose" or maker.domain not in _STANDARD:
        return None
    source = str(maker.input[0])
    axes = next((list(item.ints) for item in maker.attribute if item.name == "perm"), [1, 0])
    matrix = graph.is_float(source) and len(graph.shape(source)) == 2 and axes == [1, 0]
    return source if matrix and name not in graph.outputs else None


def attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """A number among a node's attributes."""
    for item in node.attribute:
        if item.name == name:
            return float(item.f) if item.type == 1 else float(item.i)
    return default
