"""A candidate while it is made: new nodes and constants over a float graph, and its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import QuantizeError, disk_errors
from edgekit.core.lazy import require
from edgekit.graph.onnx_files import save_proto
from edgekit.graph.onnx_nodes import live_nodes, reads
from edgekit.quantization.graphs.reading import Floats, Graph, Ints

if TYPE_CHECKING:
    import onnx

_MICROSOFT = "com.microsoft"


class Draft:
    """Nodes in the order in which they are computed; what nothing reads is not saved."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Ints] = {}
        self._made: set[str] = set()

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        *,
        domain: str = "",
        **attributes: int | float | Sequence[int],
    ) -> str:
        """Append a node; the name of its first output."""
        make = require("onnx.helper", "build").make_node
        self.nodes.append(
            make(operator, list(inputs), list(outputs), name=name, domain=domain, **attributes)
        )
        return outputs[0]

    def copy(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Append a node of the float graph as it is; the copy, to be edited."""
        copied = type(node)()
        copied.CopyFrom(node)
        self.nodes.append(copied)
        return copied

    def once(self, name: str, make: Callable[[], object]) -> str:
        """The tensor of that name, made when it is asked for the first time."""
        if name not in self._made:
            self._made.add(name)
            make()
        return name

    def constant(self, name: str, values: Ints) -> str:
        """A new constant, or another value for one of the float graph's; its name."""
        self._constants[name] = values
        return name

    def array(self, name: str) -> Floats:
        """A constant's value as it stands."""
        held = self._constants.get(name)
        return self.graph.array(name) if held is None else held

    def rename_output(self, old: str, new: str) -> None:
        """Let the node that makes a tensor call it otherwise; its readers are left alone."""
        for node in reversed(self.nodes):
            for at, name in enumerate(node.output):
                if name == old:
                    node.output[at] = new
                    return
        raise KeyError(old)

    def save(self, path: Path) -> tuple[str, ...]:
        """Write the candidate; the names of its files, the graph's first."""
        model = self.build()
        with disk_errors(QuantizeError, f"writing {path.name}"):
            return save_proto(model, path)

    def build(self) -> onnx.ModelProto:
        """The candidate as a model, all of its weights in memory."""
        source = self.graph.model
        model = type(source)()
        model.ir_version = source.ir_version
        model.producer_name = source.producer_name
        model.opset_import.extend(source.opset_import)
        held = {item.domain for item in model.opset_import}
        # What turned a weight is not read where the weight was replaced.
        nodes = live_nodes(self.nodes, self.graph.outputs)
        for domain in sorted({node.domain for node in nodes} - held - {"", "ai.onnx"}):
            model.opset_import.add(domain=domain, version=1)
        model.functions.extend(source.functions)
        graph = model.graph
        graph.name = source.graph.name
        graph.input.extend(source.graph.input)
        graph.output.extend(source.graph.output)
        graph.node.extend(nodes)
        read = {name for node in nodes for name in reads(node)} | self.graph.outputs
        to_tensor = require("onnx.numpy_helper", "build").from_array
        for name, weight in self.graph.weights.items():
            if name not in read or name in self._constants:
                continue
            if weight.external_data:
                graph.initializer.append(to_tensor(self.graph.array(name), name))
            else:
                graph.initializer.append(weight)
        for name, values in self._constants.items():
            if name in read:
                # ascontiguousarray would make a vector of a scalar.
                graph.initializer.append(to_tensor(np.asarray(values, order="C"), name))
        return model


def add_blocks(
    draft: Draft,
    inputs: Sequence[str],
    output: str,
    name: str,
    *,
    bits: int,
    block: int,
    rows: int,
    columns: int,
) -> str:
    """A MatMulNBits node: a product with a weight ``[rows, columns]`` of `bits` in blocks."""
    return draft.add(
        "MatMulNBits", inputs, [output], name, domain=_MICROSOFT,
        K=rows, N=columns, bits=bits, block_size=block, accuracy_level=4,
    )  # fmt: skip
