"""Writes one candidate: each operator of the float graph as the recipe has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.core.errors import QuantizeError
from edgekit.quantization.graphs.audit import audit
from edgekit.quantization.graphs.chains import add_chained, find_chains
from edgekit.quantization.graphs.drafting import Draft
from edgekit.quantization.graphs.finding import Finder
from edgekit.quantization.graphs.grouping import Grouping, Site
from edgekit.quantization.graphs.products import Numbers, add_dynamic, add_static
from edgekit.quantization.graphs.reading import Graph
from edgekit.quantization.graphs.storing import (
    add_block_rows,
    add_blockwise,
    add_half,
    add_rows,
    add_stored_convolution,
)
from edgekit.quantization.recipes import KeptFloat, Recipe

Mode = Literal["dynamic", "static", "blocks-8", "blocks-4", "rows", "shared", "stored", "half"]

_DYNAMIC_CONVOLUTION = "a convolution with ranges found at run time is slower than in float"
_LEAVING = "its answer leaves the graph, where rounding to 8 bits would show"
_RAISED = "the recipe keeps it at float32"
_NO_TABLES = "the recipe leaves embeddings alone"
_TIED = (
    "an embedding and a product read its table: rows and 8-bit products want it in different"
    " numbers, and it would be stored twice"
)
_PRODUCTS = ("dynamic", "static")
_STORED = ("stored", "half")
_WEIGHT_ONLY = ("weight-int8", "weight-int4")
# A table that an embedding and a head share has 8 bits whatever the others have: it is what a step
# reads most of, and what a model of few bits is most sensitive to.
_BLOCKS: Mapping[str, int] = {"blocks-8": 8, "blocks-4": 4, "shared": 8}
# What the 8-bit operators below need: per-channel scales (13) and the dynamic range (11).
_LEAST_OPSET = 13


@dataclass(frozen=True)
class Written:
    """A candidate on disk. ``modes`` tells what was done to which node.

    ``operators`` counts what is computed in fewer bits, and as ``MatMul (stored)`` what only has
    its weights stored so; no node of ``kept`` is among either.
    """

    files: tuple[str, ...]
    modes: Mapping[str, Mode]
    operators: Mapping[str, int]
    kept: tuple[KeptFloat, ...]
    kernels: Mapping[str, int]
    smoothed: int


def write_candidate(
    graph: Graph,
    grouping: Grouping,
    finder: Finder,
    recipe: Recipe,
    path: Path,
    *,
    judged: bool = True,
) -> Written:
    """Write a recipe's graph and ask the engine what it makes of it.

    The engine opens the graph in any case; `judged` says whether its kernels here are those of the
    target.

    Raises QuantizeError for a group that is not there, for a recipe that leaves everything as it
    was although it raises nothing, and for what `Finder.find` refuses.
    """
    if graph.opset < _LEAST_OPSET:
        raise QuantizeError(
            f"The graph has opset {graph.opset}; 8-bit operators need {_LEAST_OPSET}.",
            hint="Export it again with --opset 23.",
        )
    modes, kept = choose_modes(grouping, recipe)
    static = [node for node, mode in modes.items() if mode == "static"]
    for node in find_chains(graph, grouping, static).leaving:
        del modes[node]
        kept.append(KeptFloat(node, _LEAVING))
    if not modes and not recipe.levels:
        reasons = sorted({one.reason for one in kept})
        raise QuantizeError(
            f"{recipe.scheme} finds nothing to quantize in this graph"
            + (f": {'; '.join(reasons)}." if reasons else "."),
            hint="Use --method static for convolutions, or --method weight-only.",
        )
    products = [node for node, mode in modes.items() if mode in _PRODUCTS]
    numbers = finder.find(recipe, products)

    def save(numbers: Numbers, path: Path) -> tuple[str, ...]:
        return _draft(graph, grouping, recipe, modes, numbers).save(path)

    if products and recipe.correction == "full":
        numbers = finder.correct(products, numbers, save)
    files = save(numbers, path)
    weights: dict[str, list[str]] = {}
    for name, mode in modes.items():
        if mode in _PRODUCTS or (mode in _BLOCKS and grouping.sites[name].operator != "Gather"):
            held = f"{grouping.sites[name].weight}/int{_BLOCKS.get(mode, 8)}"
            weights.setdefault(held, []).append(name)
    kernels, left = audit(path, weights, signed=recipe.activations == "s8")
    if not judged:
        kernels, left = {}, ()
    return Written(
        files=files,
        modes=modes,
        operators=count_operators(grouping, modes, left=[one.node for one in left]),
        kept=(*kept, *left),
        kernels=kernels,
        smoothed=len(numbers.factors),
    )


def _draft(
    graph: Graph, grouping: Grouping, recipe: Recipe, modes: Mapping[str, Mode], numbers: Numbers
) -> Draft:
    """All nodes of the float graph, each as its mode has it."""
    draft = Draft(graph)
    for node in graph.model.graph.node:
        mode = modes.get(node.name)
        if mode is None:
            draft.copy(node)
        else:
            _emit(draft, grouping.sites[node.name], mode, recipe, numbers)
        for tensor in node.output:
            root = numbers.chained.get(tensor)
            if root is not None:
                add_chained(draft, tensor, numbers.scales[root])
    return draft


def count_operators(
    grouping: Grouping, modes: Mapping[str, Mode], *, left: Collection[str] = ()
) -> dict[str, int]:
    """How many operators of each type are quantized, those that are `left` in float not counted.

    What is computed in float from weights of fewer bits is counted as ``Conv (stored)``.
    """
    return dict(
        sorted(
            Counter(
                grouping.sites[name].operator + (" (stored)" if mode in _STORED else "")
                for name, mode in modes.items()
                if name not in left
            ).items()
        )
    )


def choose_modes(grouping: Grouping, recipe: Recipe) -> tuple[dict[str, Mode], list[KeptFloat]]:
    """What is done to each node, and why nothing is to the others."""
    names = {group.name for group in grouping.groups}
    unknown = [name for name in recipe.levels if name not in names]
    if unknown:
        raise QuantizeError(
            f"The graph has no group {unknown[0]!r}.",
            hint=f"It has {', '.join(sorted(names)[:8])}{', …' if len(names) > 8 else '.'}",
        )
    modes: dict[str, Mode] = {}
    kept = list(grouping.kept)
    for group in grouping.groups:
        level = recipe.levels.get(group.name, recipe.scheme)
        for site in grouping.sites_of(group):
            mode, reason = _mode(site, level, recipe, tied=site.weight in grouping.tied)
            if mode is not None:
                modes[site.node] = mode
            if reason is not None:
                kept.append(KeptFloat(site.node, reason))
    return modes, kept


def _mode(site: Site, level: str, recipe: Recipe, *, tied: bool) -> tuple[Mode | None, str | None]:
    if level == "float32":
        return None, _RAISED
    if level == "float16":
        return "half", None
    if tied and recipe.scheme not in _WEIGHT_ONLY:
        return None, _TIED
    if (tied or site.operator == "Gather") and not recipe.embeddings:
        return None, _NO_TABLES
    if tied:
        return "shared", None
    if site.operator == "Gather":
        return "rows", None
    if level in _WEIGHT_ONLY:
        if site.operator == "Conv":
            return "stored", None
        return "blocks-4" if level == "weight-int4" else "blocks-8", None
    if level == "int8-static":
        return "static", None
    if site.operator == "Conv":
        return None, _DYNAMIC_CONVOLUTION
    return "dynamic", None


def _emit(draft: Draft, site: Site, mode: Mode, recipe: Recipe, numbers: Numbers) -> None:
    if mode == "dynamic":
        add_dynamic(draft, site, recipe, numbers)
    elif mode == "static":
        add_static(draft, site, recipe, numbers)
    elif mode == "shared" and site.operator == "Gather":
        add_block_rows(draft, site, block=recipe.block)
    elif mode in _BLOCKS:
        # What reads rows takes the zero point for the middle of the codes.
        rounding = "nearest" if mode == "shared" else recipe.rounding
        add_blockwise(draft, site, bits=_BLOCKS[mode], block=recipe.block, rounding=rounding)
    elif mode == "rows":
        add_rows(draft, site)
    elif mode == "stored":
        add_stored_convolution(draft, site)
    else:
        add_half(draft, site)
