"""PyTorch and the exported file on the same inputs: references, distances, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgekit.core.errors import EdgekitError, ExportError
from edgekit.core.manifest import Component
from edgekit.core.results import Parity
from edgekit.core.tolerance import Tolerance
from edgekit.exporters.cases import Case
from edgekit.exporters.exported import Array
from edgekit.runtime.engines import onnxruntime
from edgekit.runtime.golden import distance, row_length
from edgekit.sources.loaded import LoadedSource

# What the session may do for speed costs a second copy of the weights, and speed is not asked.
_OPTIONS: Mapping[str, object] = {
    "allow_spinning": False,
    "session": {"session.disable_prepacking": "1"},
}
# Axes on which the attention mask says what is padding.
_TOKENS = ("sequence", "total", "encoder_sequence")


def to_numpy(tensor: Tensor) -> Array:
    """The tensor's values as numpy; bfloat16, which numpy lacks, as float32."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array


def reference(source: LoadedSource, inputs: Mapping[str, Tensor]) -> dict[str, Array]:
    """PyTorch's outputs for a batch. Raises ExportError when the module fails or answers NaN."""
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
    try:
        with torch.inference_mode():
            outputs = source.module(**inputs)
    except EdgekitError:
        raise
    except Exception as error:
        raise ExportError(
            f"The module itself fails in PyTorch at {shapes}: {type(error).__name__}: {error}",
            hint="Declare a dimension that cannot vary as a number with --input or --static.",
        ) from error
    found = {name: to_numpy(value) for name, value in outputs.items()}
    for name, value in found.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise ExportError(
                f"PyTorch itself gives NaN or infinity in {name!r} at {shapes}.",
                hint="Check the weights; a float16 model may overflow: try --dtype float32.",
            )
    return found


def compare(
    source: LoadedSource,
    directory: Path,
    component: Component,
    cases: Sequence[Case],
    references: Sequence[Mapping[str, Array]],
    tolerance: Tolerance,
) -> tuple[Parity, ...]:
    """The distances of the saved file, run by ONNX Runtime, from PyTorch at every case.

    Raises ExportError at the first output whose shape differs or that is beyond the tolerance.
    """
    try:
        session = onnxruntime.open_session(
            directory, component, options=_OPTIONS, device="cpu", threads=None
        )
    except EdgekitError as error:
        raise ExportError(
            f"ONNX Runtime does not load the exported graph: {error.message}",
            hint="Try another --opset (22 avoids the newest fused operators).",
        ) from error
    names = [spec.name for spec in component.inputs]
    rows: list[Parity] = []
    try:
        for case, expected in zip(cases, references, strict=True):
            feeds = {name: to_numpy(case.inputs[name]) for name in names}
            try:
                outputs = session.run(feeds)
            except EdgekitError as error:
                raise ExportError(
                    f"The exported graph fails at {case.name} ({_shapes(case)}): {error.message}",
                    hint="Try another --opset, or fix the shape with --static DIM=N.",
                ) from error
            for name, wanted in expected.items():
                rows.append(_row(source, case, name, wanted, outputs[name], tolerance))
    finally:
        session.close()
    return tuple(rows)


def _row(
    source: LoadedSource, case: Case, name: str, wanted: Array, got: Array, tolerance: Tolerance
) -> Parity:
    if wanted.shape != got.shape:
        raise ExportError(
            f"{name!r} has the shape {list(got.shape)} at {case.name} ({_shapes(case)}), PyTorch"
            f" gives {list(wanted.shape)}.",
            hint="An axis was frozen by the trace: fix it with --static DIM=N.",
        )
    a, b = (_tokens(source, case, name, array) for array in (wanted, got))
    max_abs, cosine = distance(a, b)
    # Only scores are ranked; an embedding's largest component means nothing.
    ranked = name.endswith("logits") and wanted.ndim > 1 and wanted.shape[-1] > 1
    agreement = float((a.argmax(-1) == b.argmax(-1)).mean()) if ranked else None
    largest = float(np.abs(a.astype(np.float64)).max(initial=0.0))
    row = row_length(wanted)
    if not tolerance.accepts(max_abs=max_abs, max_reference=largest, cosine=cosine, row=row):
        raise ExportError(
            f"The exported graph differs from PyTorch: {name!r} at {case.name} ({_shapes(case)})"
            f" is off by {max_abs:.3g} (cosine {cosine:.6f}); allowed is"
            f" {tolerance.describe(row)} with max|ref| = {largest:.3g}.",
            hint="Where forward() makes Python numbers of sizes, fix them with --static DIM=N."
            " Otherwise try another --opset, or raise --atol and --rtol if the difference is"
            " harmless.",
        )
    shape = {key: tuple(value.shape) for key, value in case.inputs.items()}
    return Parity(shape, name, max_abs, cosine, agreement)


def _tokens(source: LoadedSource, case: Case, name: str, array: Array) -> Array:
    """The array without padded positions: what stands there is read by nobody."""
    mask = case.inputs.get("attention_mask")
    axes = source.output_axes.get(name, ())
    if mask is not None and "kept" in axes:
        places = case.inputs["logits_to_keep"].numpy()
        count = case.inputs["input_ids"].shape[1]
        chosen: Array = array[mask.numpy().astype(bool)[:, mask.shape[1] - count :][:, places]]
        return chosen
    axis = next((axes.index(symbol) for symbol in _TOKENS if symbol in axes), None)
    if mask is None or axis is None:
        return array
    # The mask of a decoder also counts the tokens of its past.
    real = mask.numpy().astype(bool)[:, mask.shape[1] - array.shape[axis] :]
    kept: Array = np.moveaxis(array, axis, 1)[real]
    return kept


def _shapes(case: Case) -> str:
    return ", ".join(f"{name} {list(value.shape)}" for name, value in case.inputs.items())
