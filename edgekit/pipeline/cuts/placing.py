"""The folder of a pruned source: written beside its place, opened and run, then put there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgekit.core.errors import ConfigError, PruneError, disk_errors
from edgekit.sources.generation.answers import whole_source
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.folder import save_pruned
from edgekit.sources.pruned.plan import Plan

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# What is written is read again: the same weights in the same kernels.
_EQUAL = 1e-5


def place(
    original: LoadedSource,
    pruned: LoadedSource,
    plan: Plan,
    work: Path,
    output: Path,
    *,
    force: bool,
) -> None:
    """Write a pruned source to its output, whole or not at all.

    It is opened from where it is written and has to answer as it did before. Raises PruneError
    where it does not, or the disk is full; ConfigError where something lies at the output.
    """
    staged = work / "written" / output.name
    with disk_errors(PruneError, f"writing {output}"):
        staged.mkdir(parents=True)
    save_pruned(original, pruned, plan, staged)
    _check(staged, pruned)
    with disk_errors(PruneError, f"writing {output}"):
        output.parent.mkdir(parents=True, exist_ok=True)
        move(staged, output, work / "replaced", force=force)


def move(staged: Path, output: Path, retired: Path, *, force: bool) -> None:
    """Put a folder in its place; what was there goes back where that fails."""
    replaces = output.is_dir() and any(output.iterdir())
    if replaces and not force:
        raise ConfigError(f"The output {output} exists.", hint="Choose another -o.")
    try:
        if replaces:
            output.rename(retired)
        staged.replace(output)
    except BaseException:
        # Also Ctrl-C between the two renames.
        if retired.exists() and not output.exists():
            retired.rename(output)
        raise


def _check(folder: Path, pruned: LoadedSource) -> None:
    """Open what was written, and hold its answers to those that were judged."""
    # A factory's code has been run already: it is the user's own.
    opened = open_source(str(folder), task=_task(pruned), trust_remote_code=True)
    if opened.generative:
        opened = whole_source(opened)
    inputs = dict(pruned.sample_inputs)
    with torch.inference_mode():
        wanted, found = pruned.module(**inputs), opened.module(**inputs)
    for name, value in wanted.items():
        if not value.is_floating_point():
            continue
        scale = float(value.abs().max()) + 1.0
        if not torch.allclose(value, found[name], rtol=0.0, atol=_EQUAL * scale):
            raise PruneError(
                f"The pruned model answers otherwise after it was written: {name} differs by"
                f" {float((value - found[name]).abs().max()):.3g}.",
                hint="Say so in an issue, with the model's family.",
            )


def _task(source: LoadedSource) -> str | None:
    return source.task if source.kind == "huggingface" else None
