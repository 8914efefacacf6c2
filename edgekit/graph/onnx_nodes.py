"""What the nodes of an ONNX graph hold and read: the graphs inside them count too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds: branches, or the body of a loop."""
    for item in node.attribute:
        if item.HasField("g"):
            yield item.g
        yield from item.graphs


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Some nodes and all that stand in the graphs inside them, each before what it holds."""
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from all_nodes(graph.node)


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that is stored: weights, and the values of constants in all branches."""
    nodes = [*all_nodes(model.graph.node)]
    for function in model.functions:
        nodes += all_nodes(function.node)
    for graph in (model.graph, *(inner for node in nodes for inner in inner_graphs(node))):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes:
        for item in node.attribute:
            if item.HasField("t"):
                yield item.t
            yield from item.tensors
            if item.HasField("sparse_tensor"):
                yield from (item.sparse_tensor.values, item.sparse_tensor.indices)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those of the graphs inside it among them; some repeat."""
    yield from filter(None, node.input)
    yield from inner_reads(node)


def live_nodes(nodes: Sequence[onnx.NodeProto], outputs: Collection[str]) -> list[onnx.NodeProto]:
    """Those of some nodes, in the order in which they are computed, that an output hangs on."""
    wanted = set(outputs)
    found: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(reads(node))
            found.append(node)
    return found[::-1]


def inner_reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that the graphs inside a node read, their own among them."""
    for graph in inner_graphs(node):
        for inner in graph.node:
            yield from reads(inner)
        yield from (value.name for value in graph.output)
