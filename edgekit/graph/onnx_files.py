"""Writes an ONNX message: into one file, or with its large weights in another beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.lazy import require
from edgekit.graph.disk import INLINE_BYTES

if TYPE_CHECKING:
    import onnx

# Smaller tensors stay in the message: they are shapes, scalars and biases.
_EXTERNAL_FROM = 1024


def save_proto(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Write a model, whose weights are in memory, to `path`; the names of the files, graph first.

    Weights of more than `INLINE_BYTES` together go to ``<name>.data`` beside it.
    """
    package = require("onnx", "build")
    path.parent.mkdir(parents=True, exist_ok=True)
    if sum(len(one.raw_data) for one in model.graph.initializer) <= INLINE_BYTES:
        package.save(model, str(path))
        return (path.name,)
    data = f"{path.name}.data"
    # onnx appends to what is there.
    (path.parent / data).unlink(missing_ok=True)
    package.save(
        model,
        str(path),
        save_as_external_data=True,
        location=data,
        size_threshold=_EXTERNAL_FROM,
    )
    return (path.name, data)
