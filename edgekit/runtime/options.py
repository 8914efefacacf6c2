"""Checks of what a call may say besides its inputs."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.core.errors import ConfigError


def refuse_options(options: Mapping[str, object], known: frozenset[str], task: str) -> None:
    """Raise ConfigError for an option that the task does not have."""
    for name in options:
        if name not in known:
            raise ConfigError(
                f"{task} has no option {name!r}.",
                hint=f"Its options: {', '.join(sorted(known)) or 'none'}, and batch_size.",
            )


def check_batch_size(batch_size: int | None) -> None:
    """Raise ConfigError for a batch size that is not a number of at least 1."""
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size is a whole number of at least 1, got {batch_size!r}.")
