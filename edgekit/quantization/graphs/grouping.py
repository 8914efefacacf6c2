"""Which operators of a graph can be quantized, and which of them only together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgekit.quantization.excluding import EXCLUDED, excluded
from edgekit.quantization.graphs.reading import Graph, attribute, turned_table
from edgekit.quantization.graphs.refusing import why_not
from edgekit.quantization.recipes import Group, KeptFloat

if TYPE_CHECKING:
    import onnx

Operator = Literal["MatMul", "Gemm", "Conv", "Gather"]

# A smaller table is not worth the four nodes that read it in 8 bits.
_LEAST_TABLE = 1 << 14

_LAYER = re.compile(r"(?:^|[/.])(?:layers?|h|blocks?|transformer_blocks)[/.](\d+)(?=[/.])")
# The first that a node's name matches tells its part in a transformer; names as in transformers.
_PARTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "attention input",
        re.compile(
            r"query|key|value|[qkv]_(?:proj|lin)\b|qkv|c_attn|in_proj|attn[/.][qkv]\b",
            re.IGNORECASE,
        ),
    ),
    (
        "attention output",
        re.compile(r"att\w*[/.](?:output|out_proj|out_lin|o_proj|c_proj|Wo|o|dense)\b"),
    ),
    (
        "feed-forward input",
        re.compile(
            r"intermediate|fc1|lin1|c_fc|up_proj|gate_proj|mlp[/.]Wi|\bffn[/.]MatMul|\bwi\b"
        ),
    ),
    (
        "feed-forward output",
        re.compile(r"output[/.]dense|fc2|lin2|c_proj|down_proj|mlp[/.]Wo|ffn_output|\bwo\b"),
    ),
)
_KINDS: Mapping[str, str] = {
    "Conv": "convolution", "Gather": "embedding", "MatMul": "linear", "Gemm": "linear",
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """One operator that can be quantized: its ``weight`` and the tensor ``entering`` it.

    For an embedding ``entering`` is the tensor of row numbers. ``turned``: the weight lies as
    ``[columns, rows]``, a row for each number that leaves.
    """

    node: str
    operator: Operator
    weight: str
    entering: str
    leaving: str
    turned: bool = False

    @property
    def by_row(self) -> bool:
        """Whether a row of the weight as it lies is read whole: an embedding's, or an output's."""
        return self.operator == "Gather" or self.turned


@dataclass(frozen=True)
class Grouping:
    """All sites in the graph's order by node, the groups they make, and what was left out."""

    sites: Mapping[str, Site]
    groups: tuple[Group, ...]
    kept: tuple[KeptFloat, ...]

    def sites_of(self, group: Group) -> tuple[Site, ...]:
        """The sites of a group."""
        return tuple(self.sites[node] for node in group.nodes)

    @cached_property
    def tied(self) -> frozenset[str]:
        """The tables that an embedding reads row by row, and a product as its weight."""
        tables = {site.weight for site in self.sites.values() if site.operator == "Gather"}
        return frozenset(
            site.weight
            for site in self.sites.values()
            if site.operator != "Gather" and site.weight in tables
        )


def find_groups(graph: Graph, exclude: Sequence[str] = ()) -> Grouping:
    """The groups of a graph. `exclude` are patterns of nodes or of groups, see `excluded`.

    Raises ConfigError for a pattern that names nothing that could be quantized.
    """
    kept: list[KeptFloat] = []
    sites: dict[str, Site] = {}
    found = {node.name: _site(graph, node) for node in graph.model.graph.node}
    reading: dict[str, list[Site]] = {}
    for reader in filter(None, found.values()):
        reading.setdefault(reader.weight, []).append(reader)
    for node in graph.model.graph.node:
        site = found[node.name]
        reason = why_not(graph, node) if site is None else _shared(graph, site, reading)
        if reason is not None:
            kept.append(KeptFloat(node.name, reason))
        elif site is not None:
            sites[site.node] = site
    groups: list[Group] = []
    taken: set[str] = set()
    for members in _together(sites.values()):
        groups.append(_group(graph, members, taken))
        taken.add(groups[-1].name)
    # Groups are named before any is left out: a name means the same whatever else is asked.
    out = excluded(exclude, groups, kept=[one.node for one in kept])
    for group in groups:
        if group.name in out:
            for name in group.nodes:
                kept.append(KeptFloat(name, EXCLUDED))
                del sites[name]
    left = tuple(group for group in groups if group.name not in out)
    return Grouping(sites, left, tuple(kept))


def _site(graph: Graph, node: onnx.NodeProto) -> Site | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Gather":
        table = node.input[0]
        if (
            graph.is_float(table)
            and len(graph.shape(table)) == 2
            and np.prod(graph.shape(table)) >= _LEAST_TABLE
            and attribute(node, "axis", 0) == 0
        ):
            return Site(node.name, "Gather", table, node.input[1], node.output[0])
        return None
    if node.op_type not in ("MatMul", "Gemm", "Conv") or node.input[0] in graph.weights:
        return None
    turned_round = turned_table(graph, node.input[1]) if node.op_type == "MatMul" else None
    if turned_round is not None:
        return Site(node.name, "MatMul", turned_round, node.input[0], node.output[0], turned=True)
    if not graph.is_float(node.input[1]):
        return None
    rank = len(graph.shape(node.input[1]))
    if node.op_type == "Conv":
        return Site(node.name, "Conv", node.input[1], node.input[0], node.output[0])
    plain = (
        attribute(node, "alpha", 1) == 1
        and attribute(node, "beta", 1) == 1
        and not attribute(node, "transA", 0)
    )
    if rank != 2 or not plain:
        return None
    kind: Operator = "Gemm" if node.op_type == "Gemm" else "MatMul"
    turned = bool(attribute(node, "transB", 0))
    return Site(node.name, kind, node.input[1], node.input[0], node.output[0], turned=turned)


def _shared(graph: Graph, site: Site, reading: Mapping[str, Sequence[Site]]) -> str | None:
    """Why a weight that others read too cannot be replaced."""
    alike = {other.node for other in reading[site.weight] if _alike(site, other)}
    others = {node.op_type for node in _readers(graph, site.weight) if node.name not in alike}
    if not others:
        return None
    return f"its weight {site.weight} is also read by {', '.join(sorted(others))}"


def _alike(one: Site, other: Site) -> bool:
    """Whether two readers of a weight can read the same codes."""
    same = one.operator == other.operator and one.turned == other.turned
    return same or (one.by_row and other.by_row)


def _readers(graph: Graph, weight: str) -> Iterator[onnx.NodeProto]:
    """The nodes that read a weight, as it is or turned."""
    for node in graph.readers[weight]:
        if node.op_type == "Transpose" and turned_table(graph, node.output[0]) == weight:
            yield from graph.readers.get(node.output[0], ())
        else:
            yield node


def _together(sites: Iterable[Site]) -> list[list[Site]]:
    """Sites that read one tensor (query, key and value) or one weight, in the graph's order."""
    found: list[list[Site]] = []
    at: dict[tuple[str, str], list[Site]] = {}
    for site in sites:
        keys = [("weight", site.weight)]
        if site.operator in ("MatMul", "Gemm"):
            keys.append(("tensor", site.entering))
        members = next((at[key] for key in keys if key in at), None)
        if members is None:
            members = []
            found.append(members)
        members.append(site)
        for key in keys:
            at.setdefault(key, members)
    return found


def _group(graph: Graph, members: Sequence[Site], taken: set[str]) -> Group:
    # A table that a head reads too costs the time of the head.
    first = next((site for site in members if site.operator != "Gather"), members[0])
    kind = _KINDS[first.operator]
    layer = _LAYER.search(first.node)
    if layer is not None and first.operator in ("MatMul", "Gemm"):
        kind = next((name for name, names in _PARTS if names.search(first.node)), kind)
    if layer is not None and kind not in _KINDS.values():
        name = f"layer.{layer.group(1)}.{kind}"
    else:
        name = first.node.strip("/").removesuffix(f"/{first.operator}").replace("/", ".")
        name = name or first.node
    if name in taken:
        name = first.node
    weights = {site.weight for site in members}
    parameters = sum(int(np.prod(graph.shape(weight))) for weight in weights)
    return Group(name, tuple(site.node for site in members), kind, parameters)
