"""What is kept of a tensor that was seen many times: bounds, sums and a histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.quantization.calibration.histogram import Counter, Histogram
from edgekit.runtime.session import Array

Floats = NDArray[np.float64]

# The weight of the newest sample in the moving averages of the bounds.
AVERAGING = 0.01


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Along one axis of a tensor, over all others and all samples; each ``[channels]``.

    ``greatest`` is the largest absolute value, ``mean`` the mean, ``mean_square`` that of squares.
    """

    greatest: Floats
    mean: Floats
    mean_square: Floats


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """A tensor over all samples.

    ``low`` and ``high`` are the least and the greatest number; ``average_low`` and
    ``average_high`` follow those of each sample with a weight of .01; ``count`` numbers were seen.
    ``channels`` are there when they were asked for.
    """

    count: int
    low: float
    high: float
    average_low: float
    average_high: float
    histogram: Histogram
    channels: ChannelStatistics | None = None

    @property
    def greatest(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))


class Accumulator:
    """Takes a tensor sample by sample; ``axis`` is that of its channels, if they are counted."""

    def __init__(self, axis: int | None = None) -> None:
        self._counter = Counter()
        self._channels = None if axis is None else _Channels(axis)
        self._count = 0
        self._bounds = (np.inf, -np.inf)
        self._averages = (0.0, 0.0)

    def add(self, values: Array) -> bool:
        """Count one sample, of any shape; False, and nothing counted, where one is NaN or infinite.

        Raises ValueError for another number of channels than before.
        """
        if not values.size:
            return True
        single = np.ascontiguousarray(values, dtype=np.float32)
        flat = single.reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        # The least and the greatest of numbers with a NaN among them are NaN.
        if not (np.isfinite(low) and np.isfinite(high)):
            return False
        if self._channels is not None:
            self._channels.add(single)
        self._counter.add(flat, low, high)
        if self._count:
            before, after = 1 - AVERAGING, AVERAGING
            self._averages = (
                before * self._averages[0] + after * low,
                before * self._averages[1] + after * high,
            )
        else:
            self._averages = (low, high)
        self._bounds = (min(self._bounds[0], low), max(self._bounds[1], high))
        self._count += flat.size
        return True

    def result(self) -> TensorStatistics | None:
        """What was counted; None when no number was."""
        if not self._count:
            return None
        return TensorStatistics(
            self._count,
            *self._bounds,
            *self._averages,
            self._counter.result(),
            self._channels.result() if self._channels is not None else None,
        )


class _Channels:
    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._rows = 0
        self._greatest: Floats = np.zeros(0)
        self._sum: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def add(self, values: NDArray[np.float32]) -> None:
        if not -values.ndim <= self._axis < values.ndim:
            raise ValueError(f"it has {values.ndim} axes, and its channels are axis {self._axis}")
        rows = np.moveaxis(values, self._axis, -1).reshape(-1, values.shape[self._axis])
        if not self._rows:
            self._greatest, self._sum, self._squares = np.zeros((3, rows.shape[1]))
        if rows.shape[1] != len(self._sum):
            raise ValueError(f"it has {rows.shape[1]} channels after {len(self._sum)}")
        self._rows += len(rows)
        np.maximum(self._greatest, np.abs(rows).max(axis=0), out=self._greatest)
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self._squares += np.einsum("rc,rc->c", rows, rows, dtype=np.float64)

    def result(self) -> ChannelStatistics:
        return ChannelStatistics(
            self._greatest.copy(), self._sum / self._rows, self._squares / self._rows
        )
