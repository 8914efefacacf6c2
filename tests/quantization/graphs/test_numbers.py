"""graphs/numbers.py and storing.py: rounding to few bits, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quantization.calibration import TensorRange
from edgekit.quantization.graphs.numbers import (
    Kind,
    quantize_rows,
    quantize_weight,
    rounded,
    rounded_dynamically,
    scale_of,
)
from edgekit.quantization.graphs.storing import _k_quant, _nearest, _packed

RANDOM = np.random.default_rng(3)
WEIGHT = RANDOM.standard_normal((24, 10)).astype(np.float32)


@pytest.mark.parametrize("kind", ["s8", "u8"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("reduce_range", "top"), [(False, 127), (True, 63)])
def test_weight_is_within_half_a_step(kind: Kind, axis: int, reduce_range: bool, top: int) -> None:
    """Each number is off by half a step of its channel at most; 7 bits use half of the codes."""
    made = quantize_weight(WEIGHT, axis, kind=kind, reduce_range=reduce_range)
    shape = (-1, 1) if axis == 0 else (1, -1)
    codes = made.values.astype(np.int64) - made.zeros.astype(np.int64).reshape(shape)
    assert np.abs(codes).max() == top
    assert (np.abs(made.floats() - WEIGHT) <= made.scales.reshape(shape) * 0.5001).all()


def test_channel_of_zeros() -> None:
    """A channel without any number but zero stays zero."""
    weight = WEIGHT.copy()
    weight[:, 2] = 0
    assert not quantize_weight(weight, 1).floats()[:, 2].any()
    codes, scales = quantize_rows(weight.T)
    assert np.isfinite(scales).all()
    assert not codes[2].any()


@pytest.mark.parametrize("kind", ["s8", "u8"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_zero_is_exact(kind: Kind, symmetric: bool) -> None:
    """Zero, which padding is made of, is told exactly; the ends of the range nearly."""
    scale = scale_of(TensorRange(-1.3, 2.9), kind, symmetric=symmetric)
    ends = np.array([0.0, -1.3, 2.9], dtype=np.float32)
    left = rounded(ends, scale)
    assert left[0] == 0
    np.testing.assert_allclose(left, ends, atol=float(scale.scale) * 1.01)


def test_beyond_the_range_is_cut_off() -> None:
    """Numbers beyond the range become its ends."""
    scale = scale_of(TensorRange(0.0, 1.0), "u8", symmetric=False)
    np.testing.assert_allclose(rounded(np.array([5.0, -5.0], np.float32), scale), [1, 0], atol=1e-6)


def test_range_of_nothing() -> None:
    """A tensor of zeros has a scale that divides."""
    scale = scale_of(TensorRange(0.0, 0.0), "u8", symmetric=False)
    assert scale.scale > 0
    assert not rounded_dynamically(np.zeros(4, dtype=np.float32)).any()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("how", [_nearest, _k_quant])
def test_blocks_are_within_a_step(how: object, bits: int) -> None:
    """Codes, scales and zero points of a block give its numbers back to within a step."""
    blocked = RANDOM.standard_normal((40, 16)).astype(np.float32)
    codes, scales, zeros = how(blocked, bits, 16)  # type: ignore[operator]
    middle = np.full((40, 1), 1 << (bits - 1)) if zeros is None else zeros.reshape(40, 1)
    told = (codes.astype(np.float32) - middle) * scales.reshape(40, 1)
    assert (np.abs(told - blocked) <= np.abs(scales.reshape(40, 1)) * 1.01).all()
    assert codes.max() <= (1 << bits) - 1


def test_block_of_zeros() -> None:
    """A block of zeros stays zero."""
    codes, scales, _ = _nearest(np.zeros((2, 16), dtype=np.float32), 4, 16)
    assert not ((codes.astype(np.float32) - 8) * scales).any()


def test_two_codes_to_a_byte() -> None:
    """Four-bit codes are packed with the first in the lower half; an odd one is alone."""
    packed = _packed(np.array([[1, 2, 15]], dtype=np.uint8), 4)
    assert packed.tolist() == [[0x21, 0x0F]]
