"""Metrics of numbers: correlations and errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics.kinds import Prediction, Truth, exp_share
from edgekit.evaluation.statistics import Floats


def pearson(rows: Floats, weights: Floats) -> Floats:
    """The weighted linear correlation of two columns."""
    return _correlation(
        np.broadcast_to(rows[:, 0], weights.shape),
        np.broadcast_to(rows[:, 1], weights.shape),
        weights,
    )


def spearman(rows: Floats, weights: Floats) -> Floats:
    """The correlation of the ranks of two columns; ties share the mean of their ranks."""
    return _correlation(_ranks(rows[:, 0], weights), _ranks(rows[:, 1], weights), weights)


def _correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    # Centred first: sums of squares of raw scores would cancel.
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(
            (weights * dx * dy).sum(axis=1)
            / np.sqrt((weights * dx * dx).sum(axis=1) * (weights * dy * dy).sum(axis=1))
        )


def _ranks(values: Floats, weights: Floats) -> Floats:
    """The rank each value has in a resample that holds it `weights` times: `[resamples, n]`."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    group = np.repeat(np.arange(len(starts)), np.diff([*starts, len(values)]))
    heights = np.add.reduceat(weights[:, order], starts, axis=1)
    middles = np.cumsum(heights, axis=1) - heights / 2 + 0.5
    ranks = np.empty_like(weights)
    ranks[:, order] = middles[:, group]
    return ranks


def pairs(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Predicted and true number, side by side."""
    return np.array([(_number(p), _number(t)) for p, t in zip(predictions, truths, strict=True)])


def _number(value: Truth) -> float:
    if isinstance(value, (str, tuple)) or np.size(value) != 1:
        raise ConfigError(
            f"{value!r} is not one number, which this metric needs.",
            hint="Choose a metric of the task, or give one label per sample.",
        )
    return float(np.ravel(value)[0])


def absolute(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The mean absolute difference of each sample."""
    return np.array(
        [
            [float(np.abs(np.ravel(p).astype(np.float64) - np.ravel(t)).mean())]
            for p, t in zip(predictions, truths, strict=True)
        ]
    )


def squared(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The mean squared difference of each sample."""
    return np.array(
        [
            [float(np.square(np.ravel(p).astype(np.float64) - np.ravel(t)).mean())]
            for p, t in zip(predictions, truths, strict=True)
        ]
    )


def surprise(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The negative log-likelihood that each prediction is, and of how many tokens it is.

    A number alone is that of one token; there is no truth beside it.
    """
    rows = [np.ravel(np.asarray(prediction, dtype=np.float64)) for prediction in predictions]
    return np.array([(-row[0], row[1] if len(row) > 1 else 1.0) for row in rows])


def surprise_influence(before: Floats, after: Floats) -> float:
    """A text may come to be as surprising as the most surprising one, over the average length."""
    average = float(before[:, 1].mean())
    most = max(float(before[:, 0].max()), float(after[:, 0].max()))
    whole = float(exp_share(before, np.ones((1, len(before))))[0])
    return whole * most / average if average else math.inf


def rank_influence(before: Floats, after: Floats) -> float:
    """A sample out of order is counted as one that says nothing any more: it takes its share.

    Where a share h of the samples is replaced by noise, the correlation falls from ρ to (1 − h)·ρ.
    (A sample that jumps from one end to the other moves it by up to 6/n. Bounding by that would
    take thousands of pairs to pass a candidate that ranks all of them alike.)
    """
    ones = np.ones((1, len(before)))
    return float(max(abs(spearman(before, ones)[0]), abs(spearman(after, ones)[0])))


def out_of_order(before: Floats, after: Floats) -> int:
    """The least number of samples without which the first columns rank all others alike.

    That is all but the longest chain in which both columns rise, or stay, together. One sample
    that jumps moves the ranks of many others, and is one all the same.
    """
    # Where the first numbers are equal the second fall: a chain takes one of them.
    both, counts = np.unique(
        np.column_stack([before[:, 0], -after[:, 0]]), axis=0, return_counts=True
    )
    places = np.unique(-both[:, 1], return_inverse=True)[1].ravel() + 1
    # A Fenwick tree over the second ranks: the longest chain that ends at or below each.
    longest = [0] * (len(places) + 1)
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        length, at = count, place - 1
        below = 0
        while at > 0:
            below = max(below, longest[at])
            at -= at & -at
        length += below
        at = place
        while at < len(longest):
            longest[at] = max(longest[at], length)
            at += at & -at
    return len(before) - max(longest)
