"""Golden values for a component whose shapes were fixed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.core.manifest import Component, TensorSpec
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import batch_symbol

_MASK = "attention_mask"


def fit_golden(
    before: Component,
    after: Component,
    inputs: Mapping[str, Array],
    reference: Mapping[str, Array],
    *,
    processor: Mapping[str, object] | None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The golden inputs and PyTorch's answers brought to the shapes that `after` fixed.

    Rows are repeated or left out along the batch; along every other axis short inputs are filled
    up, as the processor pads, and long ones cut. An answer that does not belong to the new inputs
    any more is left out: they were cut, filled up without a mask, or it has such an axis itself.
    """
    batch = batch_symbol(before.inputs)
    fills = _fills(processor)
    same_meaning = True
    new_inputs: dict[str, Array] = {}
    for old, new in zip(before.inputs, after.inputs, strict=True):
        array = inputs[old.name]
        for axis, size in _fixed(old, new):
            if old.shape[axis] == batch:
                array = _rows(array, axis, size)
                continue
            longer = array.shape[axis] > size
            unmasked = array.shape[axis] < size and _MASK not in inputs
            same_meaning = same_meaning and not (longer or unmasked)
            array = _resized(array, axis, size, fills.get(old.name, 0))
        new_inputs[old.name] = np.ascontiguousarray(array)
    new_reference: dict[str, Array] = {}
    for old, new in zip(before.outputs, after.outputs, strict=True):
        answer = reference.get(old.name)
        if answer is None or not same_meaning:
            continue
        for axis, size in _fixed(old, new):
            if old.shape[axis] == batch:
                answer = _rows(answer, axis, size)
        if all(answer.shape[axis] == size for axis, size in _fixed(old, new)):
            new_reference[old.name] = np.ascontiguousarray(answer)
    return new_inputs, new_reference


def _fixed(old: TensorSpec, new: TensorSpec) -> list[tuple[int, int]]:
    """(axis, size) of the axes that were open and are not any more."""
    return [
        (axis, size)
        for axis, (was, size) in enumerate(zip(old.shape, new.shape, strict=True))
        if isinstance(was, str) and isinstance(size, int)
    ]


def _rows(array: Array, axis: int, count: int) -> Array:
    rows: Array = np.take(array, np.arange(count) % array.shape[axis], axis=axis)
    return rows


def _resized(array: Array, axis: int, size: int, fill: int) -> Array:
    if array.shape[axis] >= size:
        cut: Array = np.take(array, np.arange(size), axis=axis)
        return cut
    width = [(0, 0)] * array.ndim
    width[axis] = (0, size - array.shape[axis])
    padded: Array = np.pad(array, width, constant_values=fill)
    return padded


def _fills(processor: Mapping[str, object] | None) -> dict[str, int]:
    padding = processor.get("padding") if processor else None
    if not isinstance(padding, Mapping):
        return {}
    return {
        "input_ids": int(padding.get("id", 0)),
        "token_type_ids": int(padding.get("type_id", 0)),
    }
