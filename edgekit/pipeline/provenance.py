"""Which versions made a bundle."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from edgekit.core.version import __version__

# The packages whose version can change what a step writes.
LIBRARIES = (
    "torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu",
    "openvino", "tokenizers", "numpy",
)  # fmt: skip


def created_by() -> str:
    """The writer's name in a manifest."""
    return f"edgekit {__version__}"


def versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """The installed version of edgekit and of each library, read without importing one."""
    found = {"edgekit": __version__, "python": sys.version.split()[0]}
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
