"""Pruned modules of one's own: the factory builds the whole, the plan cuts it, the folder fills it.

The folder holds weights and a plan, no code: the code is the factory's, where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors.torch import load_file, load_model, save_model
from torch import nn

from edgekit.core.errors import PruneError, SourceError
from edgekit.sources.custom import open_factory
from edgekit.sources.inputs import parse_inputs
from edgekit.sources.loaded import LoadedSource, license_files_in
from edgekit.sources.pruned.applying import apply
from edgekit.sources.pruned.plan import PLAN_NAME, Plan
from edgekit.sources.statehash import state_hash

if TYPE_CHECKING:
    from collections.abc import Mapping


def factory_of(source: LoadedSource) -> tuple[str, tuple[str, ...]]:
    """How a module of one's own is opened again: its factory and its declared inputs.

    Raises PruneError for a source that no factory made.
    """
    if source.plan is not None and source.plan.factory is not None:
        return source.plan.factory, source.plan.inputs
    if source.kind != "factory":
        raise PruneError(
            f"{source.id} was made by no factory, so that nothing could build it again.",
            hint="Give a module factory (file.py:factory) or a folder of transformers'.",
        )
    spec = source.id if source.folder is None else str((source.folder / source.id).resolve())
    declared = []
    for name, sample in source.sample_inputs.items():
        axes: Mapping[int, str] = source.dynamic_axes.get(name, {})
        dims = [str(axes.get(axis, size)) for axis, size in enumerate(sample.shape)]
        dtype = "float32" if sample.is_floating_point() else str(sample.dtype)
        declared.append(f"{name}={dtype.removeprefix('torch.')}:{','.join(dims)}")
    return spec, tuple(declared)


def save_module(model: nn.Module, path: Path) -> None:
    """Write the weights of a module, tied ones once."""
    with torch.no_grad():
        save_model(model, str(path))


def open_module(
    folder: Path, plan: Plan, weights: Path, *, dtype: torch.dtype, trusted: bool
) -> LoadedSource:
    """The pruned module in a folder. Its code is run, so it has to be `trusted`.

    Raises SourceError: it is not trusted, or makes another model than the one that was pruned.
    """
    assert plan.factory is not None
    if not trusted:
        raise SourceError(
            f"{folder} was pruned from {plan.factory}, and opening it runs that code.",
            hint="Read it, then pass --trust-remote-code to run it.",
        )
    declared: Sequence[str] = plan.inputs
    whole = open_factory(plan.factory, inputs=parse_inputs(declared), dtype=dtype)
    if whole.sha256 != plan.origin.sha256:
        raise SourceError(
            f"{plan.factory} makes a model with other weights (state dict {whole.sha256[:12]}…)"
            f" than the one that {folder / PLAN_NAME} was made for ({plan.origin.sha256[:12]}…).",
            hint="Restore the weights that it loads, or prune it again (edgekit prune).",
        )
    model = cast("nn.Module", whole.module.model)
    apply(model, plan)
    try:
        load_model(model, str(weights))
    except RuntimeError as error:
        raise SourceError(
            f"The weights in {folder} do not fit what its {PLAN_NAME} leaves of {plan.factory}:"
            f" {str(error).splitlines()[0]}",
            hint="Prune it again (edgekit prune).",
        ) from error
    module = whole.module.eval().requires_grad_(False)
    return replace(
        whole,
        id=folder.resolve().name,
        sha256=state_hash(load_file(weights)),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        license_files=license_files_in(folder),
        origin=plan.origin,
        plan=plan,
        notes=(),
    )
