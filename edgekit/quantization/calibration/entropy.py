"""The threshold that loses least information, by Kullback-Leibler divergence.

The algorithm of TensorRT: S. Migacz, "8-bit inference with TensorRT", GTC 2017 (session S7310).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.quantization.calibration.histogram import Histogram

# Bins of absolute values that are looked at; half of them is the 2,048 of the original.
BINS = 4096


def entropy_threshold(histogram: Histogram, levels: int) -> float:
    """The magnitude that numbers should be cut off at, to be told apart by so many `levels`.

    For each threshold the histogram of magnitudes up to it, with all beyond it in its last bin, is
    compared with what remains of it after quantization: neighbouring bins made one level, each
    level spread over those of its bins that were not empty. The threshold with the least
    divergence of the two is taken.

    Exact zeros are left out, as in NVIDIA's later pytorch-quantization: they are zeros after any
    quantization, and the many of a ReLU would outweigh all that is cut off.
    """
    counts, width = histogram.magnitudes(), histogram.width
    counts[0] -= histogram.zeros
    while len(counts) > BINS:
        counts = np.append(counts, np.zeros(len(counts) % 2, np.int64)).reshape(-1, 2).sum(axis=1)
        width *= 2
    if len(counts) <= levels:
        return len(counts) * width
    found = divergences(counts, levels)
    return (levels + int(np.argmin(found)) + 0.5) * width


def divergences(counts: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
    """Of cutting behind `levels`, `levels` + 1, … and all of the bins; infinite where none is.

    A cut behind an empty bin has none: what lies beyond would stand where quantization leaves
    nothing.
    """
    total = counts.sum()
    kept = np.arange(levels, len(counts) + 1)
    bounds = kept[:, None] * np.arange(levels + 1) // levels
    sums = _cumulated(counts)
    # Of each level, for each threshold: numbers, bins that are not empty.
    inside = np.diff(sums[bounds], axis=1)
    filled = np.diff(_cumulated(counts > 0)[bounds], axis=1)
    beyond = total - sums[kept]
    # KL(P, Q) = Σ p·log p − Σ p·log q, where q is the same in all filled bins of a level.
    last = counts[kept - 1]
    own = _cumulated(_x_log_x(counts / total))[kept - 1] + _x_log_x((last + beyond) / total)
    reference = inside.astype(np.float64)
    reference[:, -1] += beyond
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(inside / (filled * sums[kept, None]))
    spread[inside == 0] = 0
    found: NDArray[np.float64] = own - (reference * spread).sum(axis=1) / total
    found[(last == 0) & (beyond > 0)] = np.inf
    return found


def _cumulated(
    values: NDArray[np.int64] | NDArray[np.float64] | NDArray[np.bool_],
) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _x_log_x(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return share * np.log(np.where(share > 0, share, 1))
