"""Calibrators: from the statistics of a tensor to the range that its 8-bit numbers span."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.quantization.calibration.entropy import entropy_threshold
from edgekit.quantization.calibration.squared import expected_error, least_error
from edgekit.quantization.calibration.statistics import TensorStatistics
from edgekit.quantization.recipes import Calibrator

PERCENTILE = 99.99


@dataclass(frozen=True)
class TensorRange:
    """The numbers that are told apart: ``low`` ≤ 0 ≤ ``high``; beyond them all are the same.

    Both are 0 for a tensor that is nothing but zeros.
    """

    low: float
    high: float


def find_range(
    statistics: TensorStatistics,
    calibrator: Calibrator = "auto",
    *,
    bits: int = 8,
    symmetric: bool = False,
    percentile: float = PERCENTILE,
) -> TensorRange:
    """The range of one tensor, zero within it, so that zeros stay exact.

    - ``minmax``: all that was seen.
    - ``moving-average``: the usual bounds of a sample, after Jacob et al. 2018 (arXiv 1712.05877).
    - ``percentile``: `percentile` % of the numbers; the rest is cut off evenly at both ends.
    - ``entropy``: see `entropy.entropy_threshold`.
    - ``mse``: see `squared.least_error`.
    - ``auto``: of all these, the one whose expected squared error is least.

    ``bits`` matters to the last three, ``symmetric`` (low = -high) to all.
    """
    low, high = CALIBRATORS[calibrator](statistics, _Wanted(bits, symmetric, percentile))
    # What no sample held needs no codes.
    low = max(min(low, 0.0), min(statistics.low, 0.0))
    high = min(max(high, 0.0), max(statistics.high, 0.0))
    if symmetric:
        high = max(-low, high)
        low = -high
    return TensorRange(low, high)


@dataclass(frozen=True)
class _Wanted:
    bits: int
    symmetric: bool
    percentile: float


Bounds: TypeAlias = tuple[float, float]


def _minmax(statistics: TensorStatistics, wanted: _Wanted) -> Bounds:
    return statistics.low, statistics.high


def _moving_average(statistics: TensorStatistics, wanted: _Wanted) -> Bounds:
    return statistics.average_low, statistics.average_high


def _percentile(statistics: TensorStatistics, wanted: _Wanted) -> Bounds:
    histogram = statistics.histogram
    share = wanted.percentile / 100
    if wanted.symmetric:
        counts = histogram.magnitudes()
        high = _quantile(counts, np.arange(len(counts) + 1) * np.float64(histogram.width), share)
        return -high, high
    cut = (1 - share) / 2
    edges = histogram.edges
    return _quantile(histogram.counts, edges, cut), _quantile(histogram.counts, edges, 1 - cut)


def _quantile(counts: NDArray[np.int64], edges: NDArray[np.float64], share: float) -> float:
    """The number that a share of all lies below, those of one bin taken to be spread evenly."""
    reached = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return float(np.interp(share, reached, edges))


def _entropy(statistics: TensorStatistics, wanted: _Wanted) -> Bounds:
    levels = 2 ** (wanted.bits - 1)
    if not wanted.symmetric:
        # All codes lie on the larger side of a tensor of one sign, half of them otherwise.
        low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
        if high > low:
            levels = round(2**wanted.bits * max(-low, high) / (high - low))
    threshold = entropy_threshold(statistics.histogram, levels)
    return -threshold, threshold


def _mse(statistics: TensorStatistics, wanted: _Wanted) -> Bounds:
    return least_error(statistics, wanted.bits, wanted.symmetric)


def _auto(statistics: TensorStatistics, wanted: _Wanted) -> Bounds:
    # Squares as they are: the last hidden states of two MiniLMs on sentences that were not among
    # the 16 or 64 of the calibration were furthest off with minmax, closer with what is cut off
    # counting 8, 4 and 2 times, closest with 1, and a cliff began where it counted half. Counting
    # each channel by the weights that it meets made them worse.
    found = [find_range(statistics, name, **vars(wanted)) for name in CALIBRATORS if name != "auto"]
    errors = [expected_error(statistics, one.low, one.high, wanted.bits) for one in found]
    best = found[int(np.argmin(errors))]
    return best.low, best.high


CALIBRATORS: Mapping[Calibrator, Callable[[TensorStatistics, _Wanted], Bounds]] = {
    "minmax": _minmax,
    "moving-average": _moving_average,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
    "auto": _auto,
}
