"""What a part of a decoder's graph computes, found by computing it.

Every exporter writes masks and angles with nodes of its own; the numbers are the same. ONNX's
reference implementation computes them here from tokens, of which only places and padding matter.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgekit.graph.decoders.nodes import STANDARD, is_node
from edgekit.runtime.caches import IDS, MASK, PAST, PLACES

# What is added to a score that nothing may come of.
_HIDDEN = -1e4
# Where a graph does not say how many tokens it holds, a window is looked for in so many.
_MANY = 1 << 16
_FEW = 4


class Probe:
    """Computes tensors of a graph that follow from its tokens' places and padding alone.

    What follows from a token's word, or from a number in a cache, it does not.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._parts: dict[ir.Value, ReferenceEvaluator | None] = {}

    def answer(
        self, value: ir.Value, seen: NDArray[np.int64], sequence: int
    ) -> NDArray[np.generic] | None:
        """The tensor for the last `sequence` tokens of ``seen``, ``[batch, total]``: 0 is padding.

        None where it takes more than tokens, or an operator that is not of the standard.
        """
        if value not in self._parts:
            self._parts[value] = self._part(value)
        part = self._parts[value]
        if part is None:
            return None
        batch, total = seen.shape
        known = {
            IDS: np.zeros((batch, sequence), np.int64),
            MASK: seen,
            PLACES: np.maximum(seen.cumsum(axis=1) - 1, 0)[:, total - sequence :],
        }
        feeds = {}
        for given in self._graph.inputs:
            if given.name in part.input_names:
                own = known.get(given.name or "")
                feeds[given.name] = _cache(given, batch, total - sequence) if own is None else own
        try:
            return np.asarray(part.run(None, feeds)[0])
        except Exception:
            # The evaluator raises what numpy does, and whatever an operator's code comes upon: a
            # table, say, that is shorter than the context.
            return None

    def _part(self, value: ir.Value) -> ReferenceEvaluator | None:
        """What computes a tensor; None where that takes more than is known here."""
        nodes: set[ir.Node] = set()
        leaves: set[ir.Value] = set()
        open_ = [value]
        while open_:
            one = open_.pop()
            node = one.producer()
            if node is None:
                leaves.add(one)
            elif node not in nodes:
                nodes.add(node)
                open_ += [given for given in node.inputs if given is not None]
        if not nodes or not all(_is_plain(node) for node in nodes):
            return None
        inputs = [one for one in leaves if one.const_value is None]
        if not all(one.is_graph_input() and _is_known(one, nodes) for one in inputs):
            return None
        stored = [
            onnx.numpy_helper.from_array(one.const_value.numpy(), one.name)
            for one in leaves
            if one.const_value is not None
        ]
        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                [ir.serde.serialize_node(node) for node in self._graph if node in nodes],
                "part",
                [ir.serde.serialize_value(one) for one in inputs],
                [onnx.helper.make_empty_tensor_value_info(value.name)],
                stored,
            ),
            opset_imports=[onnx.helper.make_opsetid("", self._graph.opset_imports.get("", 1))],
        )
        try:
            return ReferenceEvaluator(model)
        except Exception:
            # As in `answer`: an operator that it does not know is one of many reasons.
            return None


def window_of(probe: Probe, mask: ir.Value, context: int | None) -> int | None:
    """How many tokens a token sees, itself and those before it; 0: all. None for another mask.

    The mask is one to be added in float32, ``[batch, 1, sequence, total]``, of zeros and of numbers
    under which nothing is seen, and hides padding. Without a `context` a window of 65,536 tokens or
    more is not told from none.
    """
    longest = context or _MANY
    found = probe.answer(mask, np.ones((1, longest), np.int64), 1)
    if found is None or found.dtype != np.float32 or found.shape != (1, 1, 1, longest):
        return None
    window = int((found == 0).sum())
    most = longest - _FEW
    if window == 0 or most < _FEW:
        return None
    for past, sequence in ((0, _FEW + 1), (_FEW, _FEW - 1), (min(window + 1, most), _FEW - 1)):
        seen = np.ones((2, past + sequence), np.int64)
        seen[0, :2] = 0
        if not _sees(probe.answer(mask, seen, sequence), seen, sequence, window):
            return None
    return 0 if window == longest else window


def _sees(
    found: NDArray[np.generic] | None, seen: NDArray[np.int64], sequence: int, window: int
) -> bool:
    """Whether a mask lets tokens see so many, none behind them, and no padding."""
    rows, total = seen.shape
    if found is None or found.shape != (rows, 1, sequence, total):
        return False
    scores = found.astype(np.float32)
    keys = np.arange(total)
    queries = keys[total - sequence :, None]
    wanted = (keys <= queries) & (queries - keys < window) & (seen != 0)[:, None, None, :]
    # What padding sees does not matter.
    real = (seen[:, total - sequence :] != 0)[:, None, :, None]
    right: NDArray[np.bool_] = np.where(wanted, scores == 0, scores <= _HIDDEN)
    return bool((right | ~real).all())


def table_of(probe: Probe, angles: ir.Value, context: int) -> NDArray[np.float32] | None:
    """The cosines, or sines, of every place of a context: ``[context, half of what is turned]``.

    None where they follow from anything but the place of their token.
    """
    if context < _FEW:
        return None
    found = probe.answer(angles, np.ones((1, context), np.int64), context)
    if found is None or found.dtype != np.float32 or found.ndim != 3 or len(found) != 1:
        return None
    table: NDArray[np.float32] = found[0].astype(np.float32)
    if len(table) != context:
        return None
    for total, sequence in ((context, 1), (_FEW, 2)):
        seen = np.ones((2, total), np.int64)
        seen[0, :2] = 0
        places = (seen.cumsum(axis=1) - 1)[:, total - sequence :]
        again = probe.answer(angles, seen, sequence)
        if again is None or not np.array_equal(again, table[places]):
            return None
    return table


def _is_plain(node: ir.Node) -> bool:
    """Whether a node is an operator of the standard, without a graph of its own."""
    inner = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return node.domain in STANDARD and all(
        one.type not in inner for one in node.attributes.values()
    )


def _is_known(value: ir.Value, nodes: Container[ir.Node]) -> bool:
    """Whether nodes read no more of a graph's input than places, padding and sizes."""
    name = value.name or ""
    if name in (MASK, PLACES):
        return True
    cached = name.startswith(PAST) and value.shape is not None and len(value.shape) == 4
    sizes = all(is_node(node, "Shape") for node, _ in value.uses() if node in nodes)
    return sizes and (cached or name == IDS)


def _cache(value: ir.Value, batch: int, past: int) -> NDArray[np.float32]:
    """A cache of so many tokens, which takes no memory: of it only the shape is read."""
    assert value.shape is not None
    sizes = [size if isinstance(size, int) else 1 for size in value.shape]
    sizes[0], sizes[2] = batch, past
    return np.broadcast_to(np.float32(0), sizes)
