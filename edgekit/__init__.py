"""edgekit: from a PyTorch or Hugging Face model to a verified bundle on an edge device.

Every name here is resolved when it is first used (PEP 562): ``import edgekit`` imports nothing of
a third party, and a device that only calls `load` never sees the workstation's side.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgekit.core.version import __version__ as __version__

if TYPE_CHECKING:
    from edgekit import source
    from edgekit.core.errors import (
        BudgetNotMet,
        BundleCorrupt,
        BundleError,
        BundleUnsafe,
        BundleVersion,
        CompileError,
        ConfigError,
        EdgekitError,
        EngineUnavailable,
        ExportError,
        InputMismatch,
        MeasurementError,
        MissingDependency,
        PruneError,
        QuantizeError,
        SessionError,
        SourceError,
        StepError,
    )
    from edgekit.pipeline.benching import bench
    from edgekit.pipeline.building import build
    from edgekit.pipeline.compiling import compile
    from edgekit.pipeline.exporting import export
    from edgekit.pipeline.importing import import_onnx
    from edgekit.pipeline.pruning import prune
    from edgekit.pipeline.quantizing import quantize
    from edgekit.pipeline.validating import validate
    from edgekit.pipeline.verifying import verify
    from edgekit.runtime import load

_ERRORS = (
    "BudgetNotMet", "BundleCorrupt", "BundleError", "BundleUnsafe", "BundleVersion",
    "CompileError", "ConfigError", "EdgekitError", "EngineUnavailable", "ExportError",
    "InputMismatch", "MeasurementError", "MissingDependency", "PruneError", "QuantizeError",
    "SessionError", "SourceError", "StepError",
)  # fmt: skip

_HOMES: dict[str, str] = {
    **dict.fromkeys(_ERRORS, "edgekit.core.errors"),
    "bench": "edgekit.pipeline.benching",
    "build": "edgekit.pipeline.building",
    "compile": "edgekit.pipeline.compiling",
    "export": "edgekit.pipeline.exporting",
    "import_onnx": "edgekit.pipeline.importing",
    "load": "edgekit.runtime",
    "prune": "edgekit.pipeline.pruning",
    "quantize": "edgekit.pipeline.quantizing",
    "validate": "edgekit.pipeline.validating",
    "verify": "edgekit.pipeline.verifying",
}

# Modules that are public by themselves.
_MODULES: dict[str, str] = {"source": "edgekit.source"}

__all__ = [
    "BudgetNotMet",
    "BundleCorrupt",
    "BundleError",
    "BundleUnsafe",
    "BundleVersion",
    "CompileError",
    "ConfigError",
    "EdgekitError",
    "EngineUnavailable",
    "ExportError",
    "InputMismatch",
    "MeasurementError",
    "MissingDependency",
    "PruneError",
    "QuantizeError",
    "SessionError",
    "SourceError",
    "StepError",
    "bench",
    "build",
    "compile",
    "export",
    "import_onnx",
    "load",
    "prune",
    "quantize",
    "source",
    "validate",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        # The import makes it an attribute.
        return importlib.import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
