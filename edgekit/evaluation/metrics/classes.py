"""Metrics of classes: one per sample, or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError
from edgekit.evaluation.binomial import clopper_pearson
from edgekit.evaluation.metrics.kinds import Prediction, Truth
from edgekit.evaluation.statistics import Floats


def f1_micro(rows: Floats, weights: Floats) -> Floats:
    """F1 over all classes together, from three columns per class: hits, false alarms, misses."""
    sums = (weights @ rows).reshape(len(weights), -1, 3).sum(axis=1)
    return _f1(sums)


def f1_macro(rows: Floats, weights: Floats) -> Floats:
    """The mean over classes of their F1, classes that neither occur nor are predicted left out."""
    sums = (weights @ rows).reshape(len(weights), -1, 3)
    scores = _f1(sums)
    occurs = sums.sum(axis=2) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(occurs, scores, 0.0).sum(axis=1) / occurs.sum(axis=1))


def _f1(sums: Floats) -> Floats:
    hits, alarms, misses = sums[..., 0], sums[..., 1], sums[..., 2]
    total = 2 * hits + alarms + misses
    return np.asarray(np.where(total > 0, 2 * hits / np.where(total > 0, total, 1), 0.0))


def correct(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """1 where the largest logit is that of the class, which may come as logits too."""
    right = [
        float(_class(prediction) == _class(truth))
        for prediction, truth in zip(predictions, truths, strict=True)
    ]
    return np.array(right)[:, None]


def top(count: int) -> Callable[[Sequence[Prediction], Sequence[Truth]], Floats]:
    """Rows of 1 where the class is among those of the `count` largest logits.

    Of equal logits the first counts as larger, so that one is as accuracy has it.
    """

    def rows(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
        classes = max((np.size(prediction) for prediction in predictions), default=0)
        if count >= classes:
            raise ConfigError(
                f"top-{count}-accuracy is always 1 for a model of {classes} classes.",
                hint="Choose a smaller number, for example --metric top-2-accuracy.",
            )
        right = [
            float(_class(truth) in np.argsort(-np.asarray(prediction), kind="stable")[:count])
            for prediction, truth in zip(predictions, truths, strict=True)
        ]
        return np.array(right)[:, None]

    return rows


def _class(value: Truth) -> int:
    if isinstance(value, np.ndarray):
        return int(np.argmax(value))
    if isinstance(value, (int, np.integer)):
        return int(value)
    raise ConfigError(f"{value!r} is not a class, which this metric needs.")


def hits(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Hits, false alarms and misses of every class, three columns each."""
    picked = [chosen(prediction) for prediction in predictions]
    wanted = [
        chosen(truth) if isinstance(truth, np.ndarray) else _marked(truth, len(prediction))
        for truth, prediction in zip(truths, picked, strict=True)
    ]
    said, true = np.array(picked), np.array(wanted)
    columns = np.stack([said & true, said & ~true, ~said & true], axis=2)
    return columns.reshape(len(said), -1).astype(np.float64)


def one_hits(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The same where exactly one class holds."""
    sizes = {np.size(prediction) for prediction in predictions}
    classes = np.eye(max(sizes), dtype=bool)
    said = classes[[_class(prediction) for prediction in predictions]]
    true = classes[[_class(truth) for truth in truths]]
    columns = np.stack([said & true, said & ~true, ~said & true], axis=2)
    return columns.reshape(len(said), -1).astype(np.float64)


def binary_hits(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Hits, false alarms and misses of class 1, of two."""
    classes = max((np.size(prediction) for prediction in predictions), default=0)
    if classes != 2:
        raise ConfigError(
            f"f1-binary is for models of two classes; this one has {classes}.",
            hint="Choose --metric f1-macro.",
        )
    return one_hits(predictions, truths)[:, 3:]


def confusion(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """A column per true class, one per predicted class, and one for right answers."""
    classes = np.eye(max(np.size(prediction) for prediction in predictions))
    said = np.array([_class(prediction) for prediction in predictions])
    true = np.array([_class(truth) for truth in truths])
    return np.concatenate([classes[true], classes[said], (said == true)[:, None]], axis=1)


def matthews(rows: Floats, weights: Floats) -> Floats:
    """The correlation of two sets of classes from `confusion`; 0 where one has a single class.

    J. Gorodkin: Comparing two K-category assignments by a K-category correlation coefficient
    (Computational Biology and Chemistry 28, 2004).
    """
    shares = (weights @ rows) / weights.sum(axis=1, keepdims=True)
    covariance, true, said = _spread(shares)
    spread = true * said
    known = np.where(spread > 0, spread, 1.0)
    return np.asarray(np.where(spread > 0, covariance / np.sqrt(known), 0.0))


def _spread(shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Covariance of true and predicted classes, and the variance of each."""
    classes = shares.shape[1] // 2
    true, said, right = shares[:, :classes], shares[:, classes:-1], shares[:, -1]
    return (
        right - (true * said).sum(axis=1),
        # What rounding leaves of a single class is no variance.
        np.where(true.max(axis=1) < 1, 1 - (true * true).sum(axis=1), 0.0),
        np.where(said.max(axis=1) < 1, 1 - (said * said).sum(axis=1), 0.0),
    )


def chosen(logits: Prediction) -> NDArray[np.bool_]:
    """The classes of several that hold, `[classes]`."""
    # The sigmoid is above one half where the logit is above zero.
    return np.asarray(np.asarray(logits, dtype=np.float64) > 0)


def _marked(truth: Truth, classes: int) -> NDArray[np.bool_]:
    marks = np.zeros(classes, dtype=bool)
    marks[[int(c) for c in truth] if isinstance(truth, tuple) else [_class(truth)]] = True
    return marks


def same_set(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """1 where exactly the same classes are chosen."""
    return np.array(
        [
            [float(np.array_equal(chosen(p), chosen(np.asarray(t))))]
            for p, t in zip(predictions, truths, strict=True)
        ]
    )


def matthews_influence(before: Floats, after: Floats) -> float:
    """A share h that changes its class moves the covariance and the variance by up to 2·h.

    To first order in h, as for ranks.
    """
    sides = [_spread(rows.mean(axis=0, keepdims=True)) for rows in (before, after)]
    true = float(sides[0][1][0])
    least = min(float(said[0]) for _, _, said in sides)
    return 2 / math.sqrt(least * true) + 1 / least if least * true else math.inf


def micro_influence(before: Floats, after: Floats) -> float:
    """A label lost moves F1 = 2·hits / (said + true) by no more than 2 / true, one added by half.

    A sample loses and adds no more than the largest one seen has.
    """
    samples = [rows.reshape(len(rows), -1, 3) for rows in (before, after)]
    most = max(float(sample.sum(axis=(1, 2)).max()) for sample in samples)
    true = samples[0][:, :, 0] + samples[0][:, :, 2]
    # At least as many labels as samples that have one.
    least = clopper_pearson(int(np.count_nonzero(true.any(axis=1))), len(true))[0]
    return 2 * most / least if least else math.inf


def macro_influence(before: Floats, after: Floats) -> float:
    """The rarest class decides: a hit lost moves its F1 by 2 / true, and adds a false alarm.

    Of a class that does not occur in the samples nothing is known.
    """
    true = before.reshape(len(before), -1, 3)[:, :, (0, 2)].sum(axis=(0, 2))
    least = clopper_pearson(int(true.min()), len(before))[0]
    return 3 / (len(true) * least) if least else math.inf
