"""The squared error of quantization to a range, and the range that makes the least of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgekit.quantization.calibration.statistics import TensorStatistics

Floats = NDArray[np.float64]

# Clippings are tried at these shares of the whole, then around the best of them, ever closer.
_SHARES: Floats = 2.0 ** (-np.arange(65, dtype=np.float64) / 8)
_FINE: Floats = 2.0 ** (-np.arange(257, dtype=np.float64) / 32)
_AROUND: Floats = 2.0 ** (np.arange(-4, 5, dtype=np.float64) / 32)
_CLOSER: Floats = 2.0 ** (np.arange(-4, 5, dtype=np.float64) / 128)
# Wider bins than these would show in the error, narrower ones take time.
_BINS = 4096


def encoding(low: float, high: float, bits: int = 8) -> tuple[float, int]:
    """The (scale, zero point) of a range, ``low`` ≤ 0 ≤ ``high``, in unsigned codes 0…2**bits − 1.

    A number x has the code round(x / scale) + zero point; signed codes are 2**(bits − 1) less. The
    zero point of a symmetric range is 2**(bits − 1). The scale of an empty range is 1.
    """
    if high <= low:
        return 1.0, 0
    steps = 2**bits - 1
    # Half a step from zero in a symmetric range: rounded up however the division came out.
    return (high - low) / steps, math.floor(-low * steps / (high - low) + 0.5 + 1e-9)


def expected_error(statistics: TensorStatistics, low: float, high: float, bits: int = 8) -> float:
    """The mean squared error of a tensor's numbers when ``low``…``high`` is split in `2**bits`."""
    bounds = np.array([[low, high]], dtype=np.float64)
    return float(_Errors(statistics, bits).of(bounds)[0])


def least_error(statistics: TensorStatistics, bits: int, symmetric: bool) -> tuple[float, float]:
    """The (low, high) whose `expected_error` is least, each at least 1/256 of the whole.

    The two ends are searched in turns, from the common clipping that is best: with few codes the
    error has many valleys, and a deeper one may be missed by a few percent.
    """
    errors = _Errors(statistics, bits)
    if symmetric:
        whole = np.array([-statistics.greatest, statistics.greatest])
    else:
        whole = np.array([min(statistics.low, 0.0), max(statistics.high, 0.0)])
    if whole[0] == whole[1]:
        return float(whole[0]), float(whole[1])
    ends = ((0, 1),) if symmetric else ((1,), (0,))
    best = _best(errors, whole, whole, _FINE if symmetric else _SHARES, (0, 1))
    for end in () if symmetric else ends:
        best = _best(errors, best, whole, _SHARES, end)
    for end in ends * 2:
        best = _best(errors, best, best, _AROUND, end)
    for end in ends:
        best = _best(errors, best, best, _CLOSER, end)
    return float(best[0]), float(best[1])


def _best(
    errors: _Errors, now: Floats, whole: Floats, shares: Floats, ends: tuple[int, ...]
) -> Floats:
    """`now`, or the same with its ends at one of the shares of `whole`."""
    tried = np.repeat(now[None], len(shares) + 1, axis=0)
    for end in ends:
        tried[1:, end] = whole[end] * shares
    # Of equals the first: what is known already, then the widest.
    found: Floats = tried[int(np.argmin(errors.of(tried)))]
    return found


class _Errors:
    """Expected squared errors of one tensor, the numbers of a bin taken to be spread evenly."""

    def __init__(self, statistics: TensorStatistics, bits: int) -> None:
        counts = statistics.histogram.counts.astype(np.float64)
        first, width = statistics.histogram.first, statistics.histogram.width
        # Zeros are exact in every range.
        if 0 <= -first < len(counts):
            counts[-first] -= statistics.histogram.zeros
        while len(counts) > _BINS:
            counts = np.pad(counts, (first % 2, (first + len(counts)) % 2)).reshape(-1, 2).sum(1)
            first, width = first // 2, width * 2
        self._weights: Floats = counts / statistics.count
        # What a bin holds lies between what the whole tensor holds.
        edges = (first + np.arange(len(counts) + 1, dtype=np.float64)) * width
        self._edges = np.clip(edges, statistics.low, statistics.high)
        self._bits = bits

    def of(self, bounds: Floats) -> Floats:
        """The errors of ranges ``[n, 2]``, ``[n]``."""
        return np.array([self._error(low, high) for low, high in bounds])

    def _error(self, low: float, high: float) -> float:
        if high <= low:
            # All become zero.
            start, end = self._edges[:-1], self._edges[1:]
            squares = (start**2 + start * end + end**2) / 3
            return float(np.dot(self._weights, squares))
        scale, zero = encoding(low, high, self._bits)
        least, most = -zero, 2**self._bits - 1 - zero
        edges = self._edges / scale
        whole = np.diff(_integral(edges, least, most))
        extent = np.diff(edges)
        # A bin of one number only has no extent.
        alone = extent <= 0
        if alone.any():
            value = edges[:-1][alone]
            whole[alone] = (value - np.clip(np.rint(value), least, most)) ** 2
            extent[alone] = 1
        return float(scale**2 * np.dot(self._weights, whole / extent))


def _integral(t: Floats, least: float, most: float) -> Floats:
    """∫ (u − code(u))² du from 0 to t, where code(u) is the nearest whole number there is."""
    inside = np.clip(t, least, most)
    nearest = np.rint(inside)
    rest, beyond = inside - nearest, t - inside
    # Each whole code adds 1/12; a part of one the cube of what is left. (** 3 would be slow.)
    whole: Floats = nearest / 12 + (rest * rest * rest + beyond * beyond * beyond) / 3
    return whole
