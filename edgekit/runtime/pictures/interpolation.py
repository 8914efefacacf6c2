"""Bilinear interpolation as PyTorch's ``interpolate(mode="bilinear", align_corners=False)``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """For each of the new places the two old ones around it, and how much each of them counts."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    first: Floats
    second: Floats

    def part(self, start: int, stop: int) -> Weights:
        """The weights of some of the new places."""
        return Weights(
            self.low[start:stop], self.high[start:stop],
            self.first[start:stop], self.second[start:stop],
        )  # fmt: skip


def weights(old: int, new: int) -> Weights:
    """The weights that bring an axis of `old` places to `new` ones; edges are repeated."""
    scale = np.float32(old) / np.float32(new)
    places = scale * (np.arange(new, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    places = np.maximum(places, np.float32(0))
    low = np.minimum(places.astype(np.intp), old - 1)
    high = np.minimum(low + 1, old - 1)
    second = np.clip(places - low.astype(np.float32), 0, 1).astype(np.float32)
    return Weights(low, high, np.float32(1) - second, second)


def resized(values: Floats, height: int, width: int) -> Floats:
    """``[channels, old height, old width]`` as ``[channels, height, width]``."""
    rows, columns = weights(values.shape[1], height), weights(values.shape[2], width)
    return blend(values, rows, columns)


def blend(values: Floats, rows: Weights, columns: Weights) -> Floats:
    """The new pixels ``[channels, rows, columns]``; only the old rows that they need are read."""
    first, last = int(rows.low.min()), int(rows.high.max()) + 1
    part = values[:, first:last]
    wide = part[:, :, columns.low] * columns.first + part[:, :, columns.high] * columns.second
    above = wide[:, rows.low - first] * rows.first[:, None]
    return np.asarray(above + wide[:, rows.high - first] * rows.second[:, None], dtype=np.float32)
