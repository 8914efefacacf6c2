"""Numbers as they occur inside networks, in batches of different shapes, and their statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.quantization.calibration.statistics import Accumulator, TensorStatistics

Batches = Sequence[NDArray[np.float32]]


def batches(kind: str, count: int = 20, seed: int = 0) -> list[NDArray[np.float32]]:
    """Ragged batches ``[1, 3 to 9, 64]``.

    ``normal``, ``outliers`` (some channels ten times larger), ``relu``, ``gelu``, ``shifted`` (far
    from zero) or ``growing`` (each batch wider than all before).
    """
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        x = random.normal(size=(1, 3 + number % 7, 64))
        if kind == "outliers":
            x[..., :2] *= 10
        elif kind == "relu":
            x = np.maximum(x, 0)
        elif kind == "gelu":
            x = x / (1 + np.exp(-1.702 * x))
        elif kind == "shifted":
            x = x + 1000
        elif kind == "growing":
            x = x * 3.0**number
        found.append(x.astype(np.float32))
    return found


def statistics_of(parts: Batches, axis: int | None = None) -> TensorStatistics:
    """What is kept of some batches."""
    accumulator = Accumulator(axis)
    for part in parts:
        assert accumulator.add(part)
    result = accumulator.result()
    assert result is not None
    return result


def whole(parts: Batches) -> NDArray[np.float64]:
    """All numbers of some batches."""
    return np.concatenate([part.reshape(-1) for part in parts]).astype(np.float64)
