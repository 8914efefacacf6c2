"""A bundle that generates, asked once as its callers will ask it, before anybody has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.core.errors import EdgekitError, ExportError, MissingDependency
from edgekit.runtime.model import Model

_PROMPT = "The"
_TOKENS = 2
_QUIET = 1e-3


def try_generation(model: Model) -> None:
    """Generate two tokens, greedily and as the checkpoint says. Raises ExportError."""
    processor = model.manifest.processor or {}
    item: object = _PROMPT
    if processor.get("input") == "audio":
        features = processor.get("features")
        rate = features.get("sampling_rate") if isinstance(features, Mapping) else None
        assert isinstance(rate, int)
        noise = np.random.default_rng(0).standard_normal(rate) * _QUIET
        item = noise.astype(np.float32), rate
    try:
        greedily: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        for own in (greedily, {}):
            model(item, max_new_tokens=_TOKENS, min_new_tokens=_TOKENS, seed=0, **own)
    except MissingDependency:
        raise
    except EdgekitError as error:
        raise ExportError(
            f"The exported model does not answer when it is asked: {error.message}",
            hint=error.hint or "Look at generation_config.json beside the model.",
        ) from error
