"""How alike two vectors are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluation.metrics.kinds import Prediction, Truth
from edgekit.evaluation.statistics import Floats


def cosines(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The cosine of every pair."""
    return np.array(
        [[cosine(np.asarray(p), np.asarray(t))] for p, t in zip(predictions, truths, strict=True)]
    )


def cosine(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """The cosine of two flattened arrays; 1 for two zeros, 0 for one."""
    x, y = np.ravel(first).astype(np.float64), np.ravel(second).astype(np.float64)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    if size == 0:
        return float(not x.any() and not y.any())
    return float(x @ y) / size


def of_cosines(before: Floats, after: Floats) -> float:
    """From 1 to -1."""
    return 2.0
