"""Quantization: a float graph becomes one of 8, 4 or 16 bits for one engine.

One module per engine, found by the engine's name; `pipeline.quantizing` drives them. See
`recipes.Quantizer`.
"""

from __future__ import annotations

import importlib
from typing import cast

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest
from edgekit.quantization.recipes import Quantizer

__all__ = ["find_quantizer"]

BUILT_IN = {
    "onnxruntime": "edgekit.quantization.onnxruntime",
    "openvino": "edgekit.quantization.openvino",
}


def find_quantizer(engine: str) -> Quantizer:
    """The quantizer of an engine; no library is imported yet.

    Raises ConfigError for an engine that nothing is quantized for.
    """
    if engine not in BUILT_IN:
        raise ConfigError(
            f"Nothing quantizes for the engine {engine!r}.", hint=nearest(engine, list(BUILT_IN))
        )
    return cast(Quantizer, importlib.import_module(BUILT_IN[engine]))
