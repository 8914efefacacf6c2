"""Which versions made a bundle, and how much memory that took."""

from __future__ import annotations

import resource
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


def peak_rss_bytes() -> int:
    """The largest resident memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes (getrusage(2) of each).
    return peak if sys.platform == "darwin" else peak * 1024
