"""ONNX graphs in half precision."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from edgekit.core.lazy import require
from edgekit.graph.onnx_nodes import reads

if TYPE_CHECKING:
    import onnx

# float16 among ONNX's types.
_HALF = 10


def halve(model: onnx.ModelProto, *, large: bool, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """The model in half precision, except for its inputs and outputs and the nodes to `keep`.

    `large` says that the model does not fit into one protobuf message, which shape inference needs.
    ``onnxruntime`` must have been imported through the runtime before, for its telemetry.

    Raises ValueError when the converter refuses the graph.
    """
    tools = require("onnxruntime.transformers.float16", "build")
    # It tells of each number that half precision cuts off or rounds to zero: thousands of lines.
    log = logging.getLogger(tools.__name__)
    before = log.level
    log.setLevel(logging.ERROR)
    own = {node.name for node in model.graph.node}
    try:
        converted: onnx.ModelProto = tools.convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=large, node_block_list=list(keep)
        )
    except Exception as error:  # the converter raises ValueError, onnx its own errors
        raise ValueError(str(error)) from error
    finally:
        log.setLevel(before)
    _drop_round_trips(converted.graph, own)
    # The conversions it adds stand at the end, behind the nodes that read them.
    sort_nodes(converted.graph)
    return converted


def _drop_round_trips(graph: onnx.GraphProto, own: Collection[str]) -> None:
    """Let nodes that are kept read of each other what was not rounded to half precision between.

    ``own`` are the names of the nodes that were there before the conversions.
    """
    casts = [node for node in graph.node if node.op_type == "Cast" and node.name not in own]
    halved = {node.output[0]: node.input[0] for node in casts if node.attribute[0].i == _HALF}
    back = {node.output[0]: halved[node.input[0]] for node in casts if node.input[0] in halved}
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in back:
                node.input[at] = back[name]
    outputs = {value.name for value in graph.output}
    # The casts back are the readers of the others.
    for made in (back, halved):
        read = {name for node in graph.node for name in reads(node)} | outputs
        for node in [one for one in casts if one.output[0] in made and one.output[0] not in read]:
            graph.node.remove(node)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put producers before their readers, and otherwise keep the order. Inner graphs count too."""
    producers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    waiting = [
        {producers[name] for name in reads(node) if name in producers} for node in graph.node
    ]
    readers: dict[int, list[int]] = {}
    for at, needed in enumerate(waiting):
        for producer in needed:
            readers.setdefault(producer, []).append(at)
    ready = [at for at, needed in enumerate(waiting) if not needed]
    order: list[int] = []
    while ready:
        done = heappop(ready)
        order.append(done)
        for at in readers.get(done, ()):
            waiting[at].discard(done)
            if not waiting[at]:
                heappush(ready, at)
    if order != list(range(len(graph.node))):
        sorted_nodes = [graph.node[at] for at in order]
        del graph.node[:]
        graph.node.extend(sorted_nodes)
