"""Metrics of masks: a class for every pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics.kinds import Prediction, Truth
from edgekit.evaluation.statistics import Floats

#: The class of pixels that nobody is asked about, as in transformers' segmentation data.
IGNORED_PIXEL = 255
# Pixels that are counted at a time, as whole numbers of eight bytes.
_STRIPE = 1 << 20


def right(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Right pixels, and all that count, of each picture."""
    rows = []
    for prediction, truth in zip(predictions, truths, strict=True):
        stripes = [(np.sum(said == true), true.size) for said, true in _counted(prediction, truth)]
        rows.append(np.sum(stripes, axis=0, dtype=np.float64))
    return np.array(rows)


def overlaps(classes: int) -> Callable[[Sequence[Prediction], Sequence[Truth]], Floats]:
    """For each class the pixels in both masks and those in either, two columns each.

    Without a number of classes there are as many as a byte can tell apart.
    """
    count = classes or IGNORED_PIXEL

    def rows(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
        found = []
        for prediction, truth in zip(predictions, truths, strict=True):
            both, either = np.zeros(count, np.int64), np.zeros(count, np.int64)
            for said, true in _counted(prediction, truth):
                highest = int(true.max(initial=0))
                if highest >= count:
                    raise ConfigError(
                        f"A mask holds the class {highest}; the model has {count}, from 0 to"
                        f" {count - 1}.",
                        hint=f"Write {IGNORED_PIXEL} where a pixel does not count.",
                    )
                both += np.bincount(true[said == true], minlength=count)
                either += np.bincount(said, minlength=count)[:count]
                either += np.bincount(true, minlength=count)
            found.append(np.stack([both, either - both], axis=1).ravel())
        return np.array(found, dtype=np.float64)

    return rows


def mean_iou(rows: Floats, weights: Floats) -> Floats:
    """The mean over classes of intersection over union, classes that never occur left out."""
    sums = (weights @ rows).reshape(len(weights), -1, 2)
    both, either = sums[..., 0], sums[..., 1]
    occurs = either > 0
    shares = np.where(occurs, both / np.where(occurs, either, 1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(shares.sum(axis=1) / occurs.sum(axis=1))


def _counted(
    prediction: Prediction, truth: Truth
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Both masks where the truth counts, flat, stripe by stripe.

    Raises ConfigError for masks of two sizes.
    """
    said, true = np.asarray(prediction), np.asarray(truth)
    if said.shape != true.shape:
        raise ConfigError(
            f"A mask has {true.shape[1]}×{true.shape[0]} pixels, its picture"
            f" {said.shape[1]}×{said.shape[0]}.",
            hint="Masks have the size of their pictures.",
        )
    step = max(1, _STRIPE // max(1, true.shape[1]))
    for start in range(0, len(true), step):
        mine, theirs = said[start : start + step], true[start : start + step]
        kept = theirs != IGNORED_PIXEL
        yield mine[kept].astype(np.int64), theirs[kept].astype(np.int64)
