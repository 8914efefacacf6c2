"""Golden values for a component whose shapes were fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.core.errors import CompileError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.golden import Bar
from edgekit.runtime.session import Array, contiguous

_MASK = "attention_mask"


@dataclass(frozen=True)
class FittedGolden:
    """Golden inputs in the shapes that were fixed, and what PyTorch's answers are still good for.

    ``reference`` holds the answers that belong to the new inputs as they are. ``comparable`` holds
    those that belong to their original part: an answer per token says nothing of the padding.
    """

    inputs: dict[str, Array]
    reference: dict[str, Array]
    comparable: dict[str, Array]


def fit_golden(
    before: Component,
    after: Component,
    inputs: Mapping[str, Array],
    reference: Mapping[str, Array],
    *,
    processor: Mapping[str, object] | None,
) -> FittedGolden:
    """The golden inputs and PyTorch's answers brought to the shapes that `after` fixed.

    Rows are repeated or left out along the batch; along every other axis short inputs are filled
    up, as the processor pads, and long ones cut. Answers do not belong to the new inputs any more
    when these were cut, or filled up without a mask.
    """
    batch = batch_symbol(before.inputs)
    fills = _fills(processor)
    same_meaning = True
    padded: set[str] = set()
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
            padded.add(str(old.shape[axis]))
            array = _resized(array, axis, size, fills.get(old.name, 0))
        new_inputs[old.name] = contiguous(array)
    whole: dict[str, Array] = {}
    comparable: dict[str, Array] = {}
    for old, new in zip(before.outputs, after.outputs, strict=True):
        answer = reference.get(old.name)
        fixed = _fixed(old, new)
        # Of other sizes a sample has its numbers at other places.
        sample = answer is not None and answer.ndim != len(old.shape)
        if answer is None or not same_meaning or (fixed and sample):
            continue
        for axis, size in fixed:
            if old.shape[axis] == batch:
                answer = _rows(answer, axis, size)
        answer = contiguous(answer)
        others = [axis for axis, size in fixed if answer.shape[axis] != size]
        if not others:
            whole[old.name] = answer
        # An axis that only depends on a padded one has its padding anywhere.
        if all(old.shape[axis] in padded for axis in others):
            comparable[old.name] = answer
    return FittedGolden(new_inputs, whole, comparable)


def compare(name: str, answer: Array, wanted: Array, bar: Bar, whose: str) -> None:
    """Raise CompileError when an answer leaves what `bar` allows beside `whose` answer.

    Compared are the rows and positions that `wanted` has: what lies beyond answers padding.
    """
    if answer.ndim != wanted.ndim or any(
        size < least for size, least in zip(answer.shape, wanted.shape, strict=True)
    ):
        raise CompileError(
            f"The compiled model's {name} has shape {list(answer.shape)}; that of {whose} has"
            f" {list(wanted.shape)}.",
            hint="Compile for another engine, or without --static.",
        )
    found = bar.compare(name, answer[tuple(slice(size) for size in wanted.shape)], wanted)
    if not found.passed:
        raise CompileError(
            f"The compiled model answers differently from {whose}: {name} is off by"
            f" {found.max_abs:.3g} (cosine {found.cosine:.6f}), allowed for {bar.precision}:"
            f" {found.allowed}.",
            hint="Choose a more exact precision with --set, or another engine.",
        )


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
