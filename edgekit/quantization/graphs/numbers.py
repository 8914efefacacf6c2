"""Numbers of few bits: scales of weights and of activations, and what rounding to them does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.quantization.calibration import TensorRange
from edgekit.quantization.graphs.reading import Floats, Ints

Kind = Literal["u8", "s8"]
# A scale below it makes 1 / scale infinite in float32.
_LEAST = np.float32(1e-30)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A weight as integers; ``scales`` and ``zeros`` have one entry per channel of ``axis``."""

    values: Ints
    scales: Floats
    zeros: Ints
    axis: int

    def floats(self) -> Floats:
        """The numbers that the integers stand for."""
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        wide = self.values.astype(np.float32) - self.zeros.astype(np.float32).reshape(shape)
        return wide * self.scales.reshape(shape)


def quantize_weight(
    weight: Floats, axis: int, *, kind: Kind = "s8", reduce_range: bool = False
) -> Quantized:
    """A weight at 8 bits, symmetric, with one scale per channel of `axis`.

    ``u8`` are the same codes with 128 added. With `reduce_range` only 7 bits are used.
    """
    top = 63 if reduce_range else 127
    others = tuple(at for at in range(weight.ndim) if at != axis)
    scales = (np.abs(weight).max(axis=others) / np.float32(top)).astype(np.float32)
    scales = np.where(scales < _LEAST, np.float32(1), scales).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    codes = np.clip(np.rint(weight / scales.reshape(shape)), -top, top)
    if kind == "u8":
        values: Ints = (codes + 128).astype(np.uint8)
        return Quantized(values, scales, np.full(scales.shape, 128, dtype=np.uint8), axis)
    return Quantized(codes.astype(np.int8), scales, np.zeros(scales.shape, dtype=np.int8), axis)


def quantize_rows(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """A table as 8-bit rows, and the scale of each row ``[rows, 1]``."""
    scales = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
    scales = np.where(scales < _LEAST, np.float32(1), scales).astype(np.float32)
    return np.rint(table / scales).astype(np.int8), scales


@dataclass(frozen=True)
class Scale:
    """How a tensor is told in 8 bits: ``code = round(x / scale) + zero``."""

    scale: np.float32
    zero: int
    kind: Kind

    @property
    def dtype(self) -> type[np.uint8] | type[np.int8]:
        """Of the codes."""
        return np.uint8 if self.kind == "u8" else np.int8


def scale_of(span: TensorRange, kind: Kind, *, symmetric: bool) -> Scale:
    """The scale and the zero point that cover a range."""
    lowest = 0 if kind == "u8" else -128
    if symmetric:
        scale = np.float32(max(-span.low, span.high) / 127)
        return Scale(max(scale, _LEAST), 128 + lowest, kind)
    scale = max(np.float32((span.high - span.low) / 255), _LEAST)
    zero = int(np.clip(np.rint(-span.low / scale), 0, 255))
    return Scale(scale, zero + lowest, kind)


def rounded(values: Floats, scale: Scale) -> Floats:
    """What is left of numbers that were told in 8 bits."""
    lowest = 0 if scale.kind == "u8" else -128
    codes = np.clip(np.rint(values / scale.scale) + scale.zero, lowest, lowest + 255)
    left: Floats = ((codes - np.float32(scale.zero)) * scale.scale).astype(np.float32)
    return left


def rounded_dynamically(values: Floats) -> Floats:
    """What is left of numbers after DynamicQuantizeLinear, which spans exactly what it sees."""
    span = TensorRange(min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    return rounded(values, scale_of(span, "u8", symmetric=False))
