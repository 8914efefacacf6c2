"""Which structures a source has, and a source with some of them cut."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

from torch import nn

from edgekit.core.errors import PruneError
from edgekit.sources.generation.whole import GENERATION, generating
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.pruned.applying import apply
from edgekit.sources.pruned.channels import has_channels
from edgekit.sources.pruned.cutting import Layout, layout
from edgekit.sources.pruned.families import SKIPPED, find_family, pruned_types
from edgekit.sources.pruned.plan import Plan, Structure


def inner_model(source: LoadedSource) -> nn.Module:
    """The model itself, without the wrapper that names its outputs."""
    return cast("nn.Module", source.module.model)


def structures_of(source: LoadedSource) -> tuple[Structure, ...]:
    """The structures that can be cut from a source.

    Raises PruneError, with the reason, for a model without any.
    """
    kind = getattr(source.config, "model_type", None)
    family = None if kind is None else find_family(str(kind))
    reason = SKIPPED.get(str(kind))
    if source.parts and (family is None or not family.answers):
        named = "" if kind is None else f" ({kind})"
        raise PruneError(
            f"{source.id}{named} has {len(source.parts)} components ({', '.join(source.parts)}),"
            f" and cannot be pruned: {reason or 'pruning cuts one model'}.",
            hint="Quantize it instead.",
        )
    if source.kind == "program":
        raise PruneError(
            f"{source.id} is an exported program, whose shapes are fixed.",
            hint="Prune the module that it was exported from (file.py:factory).",
        )
    model = inner_model(source)
    if reason is not None:
        raise PruneError(
            f"A {kind} model cannot be pruned: {reason}.",
            hint=f"Quantize it instead, or take a model of another family: {pruned_types()}.",
        )
    if family is not None:
        own = family.answers or (GENERATION if family.causal else None)
        if source.task != own and (own or source.task == GENERATION):
            raise PruneError(
                f"A {kind} model is not pruned for {source.task}: its repair was shown for"
                f" {own or 'tasks of encoders'} alone.",
                hint="Quantize it instead.",
            )
        found = layout(model)
        structures: list[Structure] = []
        if any(row.heads > 1 for row in found.layers):
            structures.append("heads")
        structures.append("ffn")
        if len(found.layers) > 1:
            structures.append("layers")
        return tuple(structures)
    if has_channels(source):
        return ("channels",)
    # Raises, with the reason for this family.
    layout(model)
    return ()


def layers_of(source: LoadedSource) -> Layout:
    """The layers of a source's transformer. Raises PruneError for any other model."""
    return layout(inner_model(source))


def layer_modules(source: LoadedSource) -> list[nn.Module]:
    """The layers as modules, in order; none for a model that is no known transformer."""
    kind = getattr(source.config, "model_type", None)
    if kind is None or find_family(str(kind)) is None:
        return []
    return [row.module for row in layers_of(source).layers]


def cut(source: LoadedSource, plan: Plan) -> LoadedSource:
    """A source of its own with the module cut by a plan; the one given stays whole.

    Its ``plan`` and ``origin`` are those of the cut, its hash is still that of the whole.
    Raises SourceError for a plan that was made for another model.
    """
    module = copy.deepcopy(source.module)
    model = cast("nn.Module", module.model)
    apply(model, plan)
    made = replace(
        source,
        module=module,
        config=getattr(model, "config", None),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        plan=plan,
        origin=plan.origin,
    )
    # The cache goes in and out with the heads and layers that are left.
    return generating(made) if source.generative else made
