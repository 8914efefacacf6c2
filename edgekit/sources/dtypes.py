"""The floating-point types a module can be asked to compute in."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import torch

from edgekit.core.errors import ConfigError

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def parse_dtype(name: str | None) -> torch.dtype:
    """The torch dtype of a `--dtype` option, float32 without one. Raises ConfigError."""
    if name is None:
        return torch.float32
    if name not in DTYPES:
        near = difflib.get_close_matches(name, DTYPES, n=1, cutoff=0.4)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"The dtype {name!r} is unknown.", hint=f"{meant}Known dtypes: {', '.join(DTYPES)}."
        )
    return DTYPES[name]
