"""What a metric is: rows per sample, and how a draw of samples makes one value of them.

Every metric is a function of weighted sums (or weighted ranks) of its rows. That is what lets
thousands of bootstrap resamples be computed together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluation.statistics import RESAMPLES, Aggregate, Floats

# What is kept of a model's answer to one sample, and what it is held against: a label, or the
# reference's own answer. Logits, tags and vectors are arrays; answers are texts.
Prediction: TypeAlias = NDArray[np.generic] | str | float
Truth: TypeAlias = Prediction | int | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

# A tag that is not counted, as in transformers and torch.
IGNORED = -100


@dataclass(frozen=True)
class Metric:
    """A metric by name.

    ``rows`` makes `[samples, columns]` of predictions and truths; ``aggregate`` a value of rows
    and weights. ``score`` says from its row how good a single answer is, in [0, 1], where the
    metric is the mean of that. ``influence`` says for the others, from the reference's rows and the
    candidate's, how far a changed share of the samples can move the value at most, per share, and
    ``moved`` how many samples changed, where rows may differ without any effect.
    The scores of a ``graded`` one lie anywhere between 0 and 1, those of others are one or the
    other. ``hides_a_word`` metrics ask a model for a word of each text that was masked: the
    prediction is that word's log-likelihood, and there is no other truth. ``resamples`` are fewer
    where each of them takes long.
    """

    name: str
    higher_is_better: bool
    rows: Callable[[Sequence[Prediction], Sequence[Truth]], Floats]
    aggregate: Aggregate
    score: Callable[[Floats], Floats] | None = None
    influence: Callable[[Floats, Floats], float] | None = None
    moved: Callable[[Floats, Floats], int] | None = None
    hides_a_word: bool = False
    graded: bool = False
    resamples: int = RESAMPLES


def mean(rows: Floats, weights: Floats) -> Floats:
    """The weighted mean of the first column."""
    return np.asarray((weights @ rows[:, 0]) / weights.sum(axis=1))


def root_mean(rows: Floats, weights: Floats) -> Floats:
    """The square root of the weighted mean of the first column."""
    return np.sqrt(mean(rows, weights))


def share(rows: Floats, weights: Floats) -> Floats:
    """Weighted sum of the first column over that of the second: right tags of all tags."""
    sums = weights @ rows
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1])


def exp_share(rows: Floats, weights: Floats) -> Floats:
    """e to the share: the perplexity of negative log-likelihoods over so many tokens."""
    with np.errstate(over="ignore"):
        return np.exp(share(rows, weights))


def first(rows: Floats) -> Floats:
    """The first column: a score of each sample."""
    return rows[:, 0]


def unbounded(before: Floats, after: Floats) -> float:
    """One value far enough off moves it anywhere."""
    return math.inf
