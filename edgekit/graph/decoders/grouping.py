"""Attention over a cache as ONNX Runtime's own operator, under which the cache can stay in place.

`com.microsoft.GroupQueryAttention` (ONNX Runtime, docs/ContribOperators.md) appends new keys and
values to the cache itself. Where a session binds one buffer as both past and present, nothing of
what was kept is copied between two tokens. The standard's Attention reads a cache that a Concat has
copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgekit.graph.decoders.nodes import DOMAIN, is_node, take_over
from edgekit.graph.decoders.probing import Probe, window_of
from edgekit.graph.decoders.ranks import ranks_of
from edgekit.graph.decoders.rotating import Rotations
from edgekit.runtime.caches import IDS, MASK, PAST, PRESENT, past_name

# From [batch, heads, sequence, size] to [batch, sequence, heads, size], and back.
_TURNED = (0, 2, 1, 3)
_BATCH, _HEADS, _LENGTH, _SIZE = range(4)
# Heads have so many numbers, or times as many.
_BLOCK = 8


@dataclass(frozen=True)
class _Site:
    """One attention over a cache.

    ``query``, ``key`` and ``value`` are those of the new tokens, ``[batch, heads, sequence,
    size]``, or as the ``answer`` is where they are ``flat``: ``[batch, sequence, heads × size]``.
    The answer may be of two axes; the one before it, ``turned``, has four then. ``past`` and
    ``present`` are each the keys and the values of the cache, which has ``shared``
    heads; ``mask`` is added to the scores, ``[batch, 1, sequence, total]``, and lets a token see
    so many as `window` says, or with 0 all before it.
    """

    node: ir.Node
    query: ir.Value
    key: ir.Value
    value: ir.Value
    past: tuple[ir.Value, ir.Value]
    present: tuple[ir.Value, ir.Value]
    mask: ir.Value
    answer: ir.Value
    heads: int
    shared: int
    scale: float
    turned: ir.Value | None = None
    window: int = 0

    @property
    def flat(self) -> bool:
        """Whether all heads of a token are in one axis."""
        return self.turned is None

    @property
    def size(self) -> int:
        """How many numbers a head has."""
        shape = self.past[0].shape
        size = None if shape is None else shape[_SIZE]
        assert isinstance(size, int)
        return size


def group_attention(model: ir.Model, capacity: str, context: int | None = None) -> int:
    """Turn every attention over the cache into GroupQueryAttention, in place; how many there were.

    Past and present of a cache are declared with one name then, `capacity`, for the axis that grew:
    they may be one buffer, longer than what it holds. The tokens of a row begin at the buffer's
    first place, and the mask says how many there are: none of it is padding any more, and a step of
    several tokens has none either. The operator hides what comes later, and what lies before a
    window; it turns queries and keys itself where a `context`, the most tokens of a row, is known.

    Nothing is changed, and 0 returned, where one of them has another form than those that edgekit
    exports: scores are a product plus a mask in float32, which hides padding and what comes later,
    and nothing else but what lies before a window. Inputs and outputs stay, also one that nothing
    reads any more.
    """
    graph = model.graph
    probe = Probe(graph)
    sites = _sites(graph, probe, context)
    if not sites:
        return 0
    rotations = Rotations(graph, probe, context)
    lengths = _Lengths(graph)
    flattening = _Flattening(graph)
    for site in sites:
        for past in site.past:
            lengths.stand_in(past, {_BATCH: lengths.batch, _LENGTH: lengths.past})
    for site in sites:
        _group(graph, site, flattening, lengths, rotations)
    for turned in flattening.seen:
        lengths.stand_in(turned, {_BATCH: lengths.batch, _LENGTH: lengths.sequence})
    for value in (*graph.inputs, *graph.outputs):
        if (value.name or "").startswith((PAST, PRESENT)):
            assert value.shape is not None
            value.shape = ir.Shape([*value.shape[:_LENGTH], capacity, *value.shape[_SIZE:]])
    graph.opset_imports[DOMAIN] = 1
    RemoveUnusedNodesPass()(model)
    return len(sites)


def _group(
    graph: ir.Graph,
    site: _Site,
    flattening: _Flattening,
    lengths: _Lengths,
    rotations: Rotations,
) -> None:
    """Put one GroupQueryAttention in the place of an attention and of what makes its cache."""
    rotation = rotations.of(site.query, site.key, site.size)
    asked, known = site.query, site.key
    if rotation is not None:
        asked, known = rotation.turned
        if not site.flat:
            flattening.leave(site.query, site.key)
    query, key, value = (
        one if site.flat else flattening.flat(site.node, one, heads)
        for one, heads in ((asked, site.heads), (known, site.shared), (site.value, site.shared))
    )
    inputs = [query, key, value, *site.past, lengths.last, lengths.total]
    kinds: dict[str, object] = {
        "num_heads": site.heads, "kv_num_heads": site.shared, "scale": site.scale,
    }  # fmt: skip
    if rotation is not None:
        inputs += rotation.tables
        kinds |= {"do_rotary": 1, "rotary_interleaved": rotation.interleaved}
    if site.window:
        kinds["local_window_size"] = site.window
    grouped = ir.node(
        "GroupQueryAttention",
        inputs,
        kinds,
        domain=DOMAIN,
        num_outputs=3,
        name=f"{site.node.name or site.answer.name}/grouped",
    )
    graph.insert_before(site.node, [grouped])
    # The Reshape behind the heads is for nothing, unless it makes a matrix of all rows.
    plain = site.turned is None or flattening.ranks.get(site.answer.name or "") == 3
    answer = site.answer if plain else site.turned
    assert answer is not None
    for old, new in zip((answer, *site.present), grouped.outputs, strict=True):
        take_over(old, new)
    if not plain:
        grouped.outputs[0].shape = None


class _Lengths:
    """What tells a graph how long its cache is, now that the buffers of the cache do not."""

    def __init__(self, graph: ir.Graph) -> None:
        given = {value.name: value for value in graph.inputs}
        self._nodes: list[ir.Node] = []
        mask, ids = given[MASK], given[IDS]
        self.batch = self._made("Shape", [mask], start=0, end=1)
        width = self._made("Shape", [mask], start=1, end=2)
        self.sequence = self._made("Shape", [ids], start=1, end=2)
        self.past = self._made("Sub", [width, self.sequence])
        # The operator counts in 32 bits: the place of every row's last token, and the most tokens.
        real = self._made("Cast", [mask], to=ir.DataType.BOOL)
        tokens = self._made("Cast", [real], to=ir.DataType.INT32)
        rows = self._made("Constant", [], value_ints=[1])
        held = self._made("ReduceSum", [tokens, rows], keepdims=0)
        one = self._made("Constant", [], value=ir.tensor(np.array(1, np.int32)))
        self.last = self._made("Sub", [held, one])
        self.total = self._made("ReduceMax", [held], keepdims=0)
        graph.insert_before(graph[0], self._nodes)

    def stand_in(self, value: ir.Value, axes: Mapping[int, ir.Value]) -> None:
        """Let a length be read from here that was read off a tensor, by its axis."""
        for node, _ in tuple(value.uses()):
            axis = _axis_read(node)
            if axis is not None and axis in axes:
                node.outputs[0].replace_all_uses_with(axes[axis])

    def _made(self, kind: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
        name = f"edgekit/cache/{len(self._nodes)}"
        node = ir.node(kind, inputs, attributes, name=name)
        node.outputs[0].name = f"{name}/{kind}"
        self._nodes.append(node)
        return node.outputs[0]


class _Flattening:
    """Finds, or makes, ``[batch, sequence, heads × size]`` of ``[batch, heads, sequence, size]``.

    ``seen`` are the tensors of four axes that nobody needs any more.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self.ranks = ranks_of(graph)
        self.seen: list[ir.Value] = []

    def leave(self, *values: ir.Value) -> None:
        """Remember tensors that nothing needs but for their sizes."""
        self.seen += values

    def flat(self, before: ir.Node, value: ir.Value, heads: int) -> ir.Value:
        """The tensor without its axis of heads; what it takes stands before a node."""
        self.leave(value)
        node = value.producer()
        if is_node(node, "RotaryEmbedding"):
            inner, *angles = node.inputs
            assert inner is not None
            kept = {name: one for name, one in node.attributes.items() if name != "num_heads"}
            turning = ir.node(
                "RotaryEmbedding",
                [self.flat(before, inner, heads), *angles],
                {**kept, "num_heads": heads},
                name=f"{node.name or value.name}/flat",
            )
            return self._put(before, turning)
        turned = node.inputs[0] if _turns(node) else None
        if turned is not None:
            made = turned.producer()
            whole = made.inputs[0] if is_node(made, "Reshape") else None
            if whole is not None and self.ranks.get(whole.name or "") == 3:
                return whole
        else:
            turning = ir.node(
                "Transpose", [value], {"perm": list(_TURNED)}, name=f"{value.name}/turned"
            )
            turned = self._put(before, turning)
        sizes = ir.node("Constant", [], {"value_ints": [0, 0, -1]}, name=f"{value.name}/sizes")
        target = self._put(before, sizes)
        return self._put(before, ir.node("Reshape", [turned, target], name=f"{value.name}/flat"))

    def _put(self, before: ir.Node, node: ir.Node) -> ir.Value:
        node.outputs[0].name = f"{node.name}/output"
        self._graph.insert_before(before, [node])
        return node.outputs[0]


def _sites(graph: ir.Graph, probe: Probe, context: int | None) -> list[_Site]:
    """Every attention over the cache; none where one of them has an unknown form."""
    names = {value.name or "" for value in graph.inputs}
    if not {IDS, MASK} <= names or any(
        value.shape is None or len(value.shape) != 2
        for value in graph.inputs
        if value.name in (IDS, MASK)
    ):
        return []
    kept = [one.name for one in graph.outputs if one.name and one.name.startswith(PRESENT)]
    wanted = names & {past_name(name) for name in kept}
    found = [site for node in graph if is_node(node, "Attention") and (site := _site(node))]
    read = [past.name for site in found for past in site.past]
    if len(read) != len(wanted) or set(read) != wanted:
        return []
    windows = {mask: window_of(probe, mask, context) for mask in {site.mask for site in found}}
    seen = [(site, windows[site.mask]) for site in found]
    sites = [replace(site, window=window) for site, window in seen if window is not None]
    return sites if len(sites) == len(found) else []


def _site(node: ir.Node) -> _Site | None:
    """An attention over the cache, of one of two forms; None for any other."""
    kinds = node.attributes
    plain = not kinds.get_int("is_causal", 0) and not kinds.get_float("softcap", 0.0)
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if not plain or mask is None:
        return None
    if len(node.inputs) == 6 and all(node.inputs):
        return _whole_site(node)
    if len(node.inputs) > 4 or any(one.uses() for one in node.outputs[1:]):
        return None
    return _composed_site(node, mask)


def _whole_site(node: ir.Node) -> _Site | None:
    """One that appends to the cache itself, with all heads of a token in one axis."""
    query, key, value, mask, *past = (one for one in node.inputs if one is not None)
    kinds = node.attributes
    heads, shared = kinds.get_int("q_num_heads", 0), kinds.get_int("kv_num_heads", 0)
    shape = _cache_shape(past[0], past[1])
    if not (heads and shared and shape and len(node.outputs) == 3):
        return None
    if not all(_only_lengths(one, node) and one.is_graph_input() for one in past):
        return None
    scale = kinds.get_float("scale", 1 / math.sqrt(shape[1]))
    answer, *present = node.outputs
    return _Site(
        node, query, key, value, (past[0], past[1]), (present[0], present[1]), mask, answer,
        heads, shared, scale,
    )  # fmt: skip


def _composed_site(node: ir.Node, mask: ir.Value) -> _Site | None:
    """One that reads what a Concat has appended, as edgekit exports it."""
    query, keys, values = node.inputs[:3]
    key, value = _appended(keys, node), _appended(values, node)
    if query is None or keys is None or values is None or key is None or value is None:
        return None
    shape = _cache_shape(key[0], value[0])
    groups, mask = _unpacked(mask)
    answer = node.outputs[0]
    if groups > 1:
        # Heads that share keys are rows of one head here.
        packing, unpacking = query.producer(), _only_use(answer)
        if not is_node(packing, "Reshape") or not is_node(unpacking, "Reshape"):
            return None
        query, answer = packing.inputs[0], unpacking.outputs[0]
    turning = _only_use(answer)
    flat = _only_use(turning.outputs[0]) if _turns(turning) else None
    if query is None or shape is None or turning is None or not is_node(flat, "Reshape"):
        return None
    # Without groups there are as many heads as the cache has, or the graph must say how many.
    known = groups > 1 or (query.shape is not None and query.shape[_HEADS] == shape[0])
    if not known:
        return None
    scale = node.attributes.get_float("scale", 1 / math.sqrt(shape[1]))
    return _Site(
        node, query, key[1], value[1], (key[0], value[0]), (keys, values), mask, flat.outputs[0],
        shape[0] * groups, shape[0], scale, turning.outputs[0],
    )  # fmt: skip


def _cache_shape(keys: ir.Value, values: ir.Value) -> tuple[int, int] | None:
    """(heads, size of a head) of a cache that the operator takes; None for any other.

    Keys and values are alike, of float32, and a head has fixed sizes (those of onnxruntime,
    group_query_attention_helper.h).
    """
    if keys.shape is None or values.shape is None or list(keys.shape) != list(values.shape):
        return None
    if {keys.dtype, values.dtype} != {ir.DataType.FLOAT}:
        return None
    heads, size = (keys.shape[_HEADS], keys.shape[_SIZE]) if len(keys.shape) == 4 else (None, None)
    if not isinstance(heads, int) or not isinstance(size, int) or size % _BLOCK:
        return None
    return heads, size


def _appended(whole: ir.Value | None, reader: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """(cache, what is new) of a cache with what is new behind it, which is an output."""
    node = None if whole is None else whole.producer()
    if whole is None or not is_node(node, "Concat") or len(node.inputs) != 2:
        return None
    past, new = node.inputs
    if past is None or new is None or node.attributes.get_int("axis", 0) not in (_LENGTH, -2):
        return None
    fits = past.is_graph_input() and whole.is_graph_output() and _only_lengths(past, node)
    return (past, new) if fits and all(use is reader for use, _ in whole.uses()) else None


def _only_lengths(past: ir.Value, reader: ir.Node) -> bool:
    """Whether all but one reader of a cache want to know only how long it is, or of what batch."""
    return all(use is reader or _axis_read(use) in (_BATCH, _LENGTH) for use, _ in past.uses())


def _unpacked(mask: ir.Value) -> tuple[int, ir.Value]:
    """How many times a mask is repeated for heads that share keys, and the mask itself."""
    node = mask.producer()
    if not is_node(node, "Tile"):
        return 1, mask
    once, repeats = node.inputs
    times = None if repeats is None else ir.convenience.get_const_tensor(repeats)
    counts = [] if times is None else [int(one) for one in times.numpy()]
    if once is None or len(counts) != 4 or (*counts[:2], counts[3]) != (1, 1, 1):
        return 1, mask
    return counts[_LENGTH], once


def _only_use(value: ir.Value) -> ir.Node | None:
    """The one node that reads a tensor; None where there are others, or it is an output."""
    uses = [node for node, _ in value.uses()]
    return uses[0] if len(uses) == 1 and not value.is_graph_output() else None


def _axis_read(node: ir.Node) -> int | None:
    """The one axis whose length a node reads; None for any other node."""
    if not is_node(node, "Shape"):
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", 0)
    return start if end == start + 1 else None


def _turns(node: ir.Node | None) -> TypeGuard[ir.Node]:
    """Whether a node swaps heads and sequence."""
    return is_node(node, "Transpose") and tuple(node.attributes.get_ints("perm", ())) == _TURNED
