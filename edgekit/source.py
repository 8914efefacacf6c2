"""Sources for those who go on in PyTorch: a pruned folder as a module to train, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgekit.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


def load(
    folder: Path | str, *, task: str | None = None, trust_remote_code: bool = False
) -> nn.Module:
    """The model in a folder, pruned or not, in float32 and ready to be trained on.

    It is the model itself (transformers' class, or what the factory makes), with the layers that
    pruning left. `save` writes it back.

    Raises:
        ConfigError: there is no such folder.
        SourceError: it cannot be used, or its weights are not those of its plan.
    """
    from edgekit.sources.opening import open_source

    if not Path(folder).is_dir():
        raise ConfigError(f"There is no folder {folder}.", hint="Check the path.")
    source = open_source(str(folder), task=task, trust_remote_code=trust_remote_code)
    return cast("nn.Module", source.module.model).requires_grad_(True)


def save(model: nn.Module, folder: Path | str) -> None:
    """Write a trained module's weights back into the pruned folder that `load` read it from.

    Raises:
        ConfigError: pruning did not write that folder.
        PruneError: the module has other weights than the folder, or the disk is full.
    """
    from edgekit.sources.pruned.folder import save_weights

    save_weights(model, Path(folder))
