"""Expected errors against quantized numbers, and the least of them against trying all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.quantization.calibration.squared import encoding, expected_error, least_error
from tests.quantization.calibration.numbers import batches, statistics_of, whole

KINDS = ("normal", "outliers", "relu", "gelu", "shifted")


def quantized(x: NDArray[np.float64], low: float, high: float, bits: int) -> NDArray[np.float64]:
    """What remains of numbers, as engines compute it."""
    scale, zero = encoding(low, high, bits)
    return (np.clip(np.rint(x / scale) + zero, 0, 2**bits - 1) - zero) * scale


def true_error(x: NDArray[np.float64], low: float, high: float, bits: int) -> float:
    return float(((x - quantized(x, low, high, bits)) ** 2).mean())


def test_encoding() -> None:
    """The ends are the first and the last code, and zero is one of them."""
    scale, zero = encoding(-1, 3)
    assert (scale, zero) == (4 / 255, 64)
    assert encoding(0, 2.55) == (pytest.approx(0.01), 0)
    assert encoding(-2.55, 0) == (pytest.approx(0.01), 255)
    assert encoding(0, 0) == (1, 0)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_middle_is_zero(bits: int) -> None:
    """Of a symmetric range, whatever its width: it lies between two codes, and takes the upper."""
    for width in np.random.default_rng(0).uniform(1e-3, 1e3, 300):
        assert encoding(-width, width, bits)[1] == 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_a_range(kind: str, bits: int) -> None:
    """Within a few percent of what quantizing every number makes."""
    parts = batches(kind, count=200)
    statistics, x = statistics_of(parts), whole(parts)
    for share in (1, 0.5, 0.1):
        low, high = min(statistics.low, 0) * share, statistics.high * share
        expected = true_error(x, low, high, bits)
        assert expected_error(statistics, low, high, bits) == pytest.approx(expected, rel=0.05)


def test_nothing_but_zeros_is_told_apart() -> None:
    """An empty range loses all that there is."""
    parts = batches("normal", count=50)
    expected = (whole(parts) ** 2).mean()
    assert expected_error(statistics_of(parts), 0, 0) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("value", [0.3, -2.0])
def test_a_constant_has_no_error(value: float) -> None:
    """Its own range ends where it is."""
    statistics = statistics_of([np.full(5, value, dtype=np.float32)])
    low, high = min(statistics.low, 0), max(statistics.high, 0)
    assert expected_error(statistics, low, high) == pytest.approx(0, abs=1e-12)
    assert least_error(statistics, 8, False) == pytest.approx((low, high))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_symmetric_against_all_clippings(kind: str, bits: int) -> None:
    """No range in a fine grid has an error that is more than 2 % smaller."""
    parts = batches(kind, count=30)
    statistics, x = statistics_of(parts), whole(parts)
    low, high = least_error(statistics, bits, True)
    assert low == -high
    tried = np.linspace(0, statistics.greatest, 400)[1:]
    best = min(true_error(x, -one, one, bits) for one in tried)
    assert true_error(x, low, high, bits) <= best * 1.02


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_asymmetric_against_all_clippings(kind: str, bits: int) -> None:
    """The ends, found one by one, are as good as the best pair of a grid within 2 %."""
    parts = batches(kind, count=30)
    statistics, x = statistics_of(parts), whole(parts)
    shares = np.linspace(0, 1, 40)[1:]
    tried = itertools.product(min(statistics.low, 0) * shares, max(statistics.high, 0) * shares)
    best = min(true_error(x, low, high, bits) for low, high in tried)
    assert true_error(x, *least_error(statistics, bits, False), bits) <= best * 1.02
