"""Rotary embeddings as ONNX Runtime's attention makes them itself, from tables of angles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.graph.decoders.nodes import is_node, store
from edgekit.graph.decoders.probing import Probe, table_of

# Half a head has so many numbers that are turned, or times as many (onnxruntime,
# group_query_attention_helper.h).
_BLOCK = 8
# Tables take so many bytes, or this share of what is stored besides: larger ones cost more than
# angles that are computed.
_ALWAYS, _SHARE = 1 << 20, 0.05
_BYTES = np.dtype(np.float32).itemsize


@dataclass(frozen=True)
class Rotation:
    """A rotation of an attention's queries and keys.

    ``turned`` are both before it, ``tables`` cosines and sines, ``[context, half]``.
    """

    turned: tuple[ir.Value, ir.Value]
    tables: tuple[ir.Value, ir.Value]
    interleaved: int


class Rotations:
    """Finds rotations whose angles follow from a token's place; they share their tables.

    A `context` is the most places that there are; without one there is no table.
    """

    def __init__(self, graph: ir.Graph, probe: Probe, context: int | None) -> None:
        self._graph = graph
        self._probe = probe
        self._context = context
        stored = sum(
            one.const_value.nbytes
            for one in graph.initializers.values()
            if one.const_value is not None
        )
        self._left = max(_ALWAYS, int(stored * _SHARE))
        self._tables: dict[tuple[ir.Value, ir.Value], tuple[ir.Value, ir.Value] | None] = {}

    def of(self, query: ir.Value, key: ir.Value, size: int) -> Rotation | None:
        """What turns queries and keys with heads of a size; None where that stays as it is."""
        first, second = query.producer(), key.producer()
        if not is_node(first, "RotaryEmbedding") or not is_node(second, "RotaryEmbedding"):
            return None
        asked, *angles = first.inputs
        known, *others = second.inputs
        kinds = [
            {name: one.value for name, one in node.attributes.items() if name != "num_heads"}
            for node in (first, second)
        ]
        # With a fourth input angles are looked up by place already.
        if len(angles) != 2 or angles != others or kinds[0] != kinds[1]:
            return None
        cos, sin = angles
        if asked is None or known is None or cos is None or sin is None:
            return None
        half = (first.attributes.get_int("rotary_embedding_dim", 0) or size) // 2
        if (cos, sin) not in self._tables:
            self._tables[cos, sin] = self._stored(cos, sin, half)
        tables = self._tables[cos, sin]
        if tables is None:
            return None
        return Rotation((asked, known), tables, first.attributes.get_int("interleaved", 0))

    def _stored(self, cos: ir.Value, sin: ir.Value, half: int) -> tuple[ir.Value, ir.Value] | None:
        # Before they are made: those of a long context may not fit into memory either.
        size = 0 if self._context is None else 2 * self._context * half * _BYTES
        if self._context is None or half % _BLOCK or size > self._left:
            return None
        first, second = (table_of(self._probe, _narrow(one), self._context) for one in (cos, sin))
        if first is None or second is None or not first.shape[1] == second.shape[1] == half:
            return None
        self._left -= size
        number = len(self._tables)
        return (
            store(self._graph, f"edgekit/rotary/{number}/cos", first),
            store(self._graph, f"edgekit/rotary/{number}/sin", second),
        )


def _narrow(angles: ir.Value) -> ir.Value:
    """Angles before they are repeated for every row of a batch.

    A table has all axes and every place, so that nothing else is repeated.
    """
    node = angles.producer()
    while is_node(node, "Expand") and node.inputs[0] is not None:
        angles = node.inputs[0]
        node = angles.producer()
    return angles
