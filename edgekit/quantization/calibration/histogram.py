"""A histogram of a stream of numbers whose extent nobody knows beforehand.

The bins are ``2**exponent`` wide and their edges are multiples of that, so a bin of one width is
two whole bins of half the width: when the numbers outgrow the bins, neighbours are added up, and
what comes of it is the histogram that one would have counted with the wider bins from the start.
It does not depend on the order of the numbers, and takes the same memory for any number of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

# Numbers that fill more than half of these, on both sides of zero, still fill 2,048 by magnitude.
BINS = 8192
_BINS_LOG2 = 13
# An index has to be a whole number in float32, whose mantissa has 24 bits.
_INDEX_BITS = 22
# Narrower bins than this make the factor that numbers are divided by overflow.
_LEAST_EXPONENT = -120
# Numbers that are counted at a time: their indices stay in the processor's cache.
_CHUNK = 1 << 17


@dataclass(frozen=True, eq=False)
class Histogram:
    """``counts[i]`` numbers lie in ``[(first + i)·width, (first + i + 1)·width)``.

    The first and the last bin are not empty. ``zeros`` of the numbers are exactly 0.
    """

    width: float
    first: int
    counts: Counts
    zeros: int

    @property
    def edges(self) -> Floats:
        """The bounds of the bins, one more than there are bins."""
        return np.arange(self.first, self.first + len(self.counts) + 1) * np.float64(self.width)

    def magnitudes(self) -> Counts:
        """The counts of absolute values in bins of the same width that begin at zero."""
        below = max(0, -self.first)
        above = max(0, self.first + len(self.counts))
        found = np.zeros(max(below, above), dtype=np.int64)
        split = min(below, len(self.counts))
        negative, positive = self.counts[:split], self.counts[split:]
        # The bin just below zero is the first one by magnitude.
        start = below - split
        found[start : start + split] += negative[::-1]
        start = max(0, self.first)
        found[start : start + len(positive)] += positive
        return found


class Counter:
    """Counts what it is given, in at most `BINS` bins."""

    def __init__(self) -> None:
        self._low = math.inf
        self._high = -math.inf
        self._exponent = _LEAST_EXPONENT
        self._first = 0
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._zeros = 0

    def add(self, values: NDArray[np.float32], low: float, high: float) -> None:
        """Count finite float32 numbers, a flat array with at least one, between low and high."""
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._make_room()
        factor = np.float32(math.ldexp(1, -self._exponent))
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            # Dividing by a power of two is exact, and so is the difference of whole numbers.
            index = np.floor(part * factor)
            index -= np.float32(self._first)
            self._counts += np.bincount(index.astype(np.intp), minlength=BINS)
            self._zeros += len(part) - int(np.count_nonzero(part))

    def result(self) -> Histogram:
        """The bins from the least to the greatest number. At least one number was counted."""
        width = math.ldexp(1, self._exponent)
        first, last = math.floor(self._low / width), math.floor(self._high / width)
        counts = self._counts[first - self._first : last - self._first + 1].copy()
        return Histogram(width, first, counts, self._zeros)

    def _make_room(self) -> None:
        exponent = max(self._exponent, _fitting(self._low, self._high))
        width = math.ldexp(1, exponent)
        first, last = math.floor(self._low / width), math.floor(self._high / width)
        if exponent == self._exponent and self._first <= first and last < self._first + BINS:
            return
        held = np.flatnonzero(self._counts)
        moved = ((held + self._first) >> min(62, exponent - self._exponent)) - first
        counts = np.zeros(BINS, dtype=np.int64)
        np.add.at(counts, moved, self._counts[held])
        self._exponent, self._first, self._counts = exponent, first, counts


def _fitting(low: float, high: float) -> int:
    """The exponent of the narrowest bins that hold both numbers."""
    greatest = max(abs(low), abs(high))
    if greatest == 0:
        return _LEAST_EXPONENT
    exponent = max(_LEAST_EXPONENT, math.frexp(greatest)[1] - _INDEX_BITS)
    if high > low:
        exponent = max(exponent, math.frexp(high - low)[1] - _BINS_LOG2 - 1)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= BINS:
        exponent += 1
    return exponent
