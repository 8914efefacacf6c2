"""Metrics as rows: per sample a few numbers, and how a draw of samples makes one value of them.

Every metric here is a function of weighted sums (or weighted ranks) of its rows. That is what lets
thousands of bootstrap resamples be computed together; the values are those of scikit-learn and
scipy, and of the SQuAD script, which the tests hold them to.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest
from edgekit.evaluation.statistics import Aggregate, Floats, clopper_pearson

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
    candidate's, how far a changed share of the samples can move the value at most, per share.
    """

    name: str
    higher_is_better: bool
    rows: Callable[[Sequence[Prediction], Sequence[Truth]], Floats]
    aggregate: Aggregate
    score: Callable[[Floats], Floats] | None = None
    influence: Callable[[Floats, Floats], float] | None = None


def mean(rows: Floats, weights: Floats) -> Floats:
    """The weighted mean of the first column."""
    return np.asarray((weights @ rows[:, 0]) / weights.sum(axis=1))


def share(rows: Floats, weights: Floats) -> Floats:
    """Weighted sum of the first column over that of the second: right tags of all tags."""
    sums = weights @ rows
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1])


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


def _correct(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """1 where the largest logit is that of the class, which may come as logits too."""
    right = [
        float(_class(prediction) == _class(truth))
        for prediction, truth in zip(predictions, truths, strict=True)
    ]
    return np.array(right)[:, None]


def _class(value: Truth) -> int:
    if isinstance(value, np.ndarray):
        return int(np.argmax(value))
    if isinstance(value, (int, np.integer)):
        return int(value)
    raise ConfigError(f"{value!r} is not a class, which this metric needs.")


def _hits(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Hits, false alarms and misses of every class, three columns each."""
    chosen = [_chosen(prediction) for prediction in predictions]
    wanted = [
        _chosen(truth) if isinstance(truth, np.ndarray) else _marked(truth, len(prediction))
        for truth, prediction in zip(truths, chosen, strict=True)
    ]
    said, true = np.array(chosen), np.array(wanted)
    columns = np.stack([said & true, said & ~true, ~said & true], axis=2)
    return columns.reshape(len(said), -1).astype(np.float64)


def _one_hits(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The same where exactly one class holds."""
    sizes = {np.size(prediction) for prediction in predictions}
    classes = np.eye(max(sizes), dtype=bool)
    said = classes[[_class(prediction) for prediction in predictions]]
    true = classes[[_class(truth) for truth in truths]]
    columns = np.stack([said & true, said & ~true, ~said & true], axis=2)
    return columns.reshape(len(said), -1).astype(np.float64)


def _chosen(logits: Prediction) -> NDArray[np.bool_]:
    # The sigmoid is above one half where the logit is above zero.
    return np.asarray(np.asarray(logits, dtype=np.float64) > 0)


def _marked(truth: Truth, classes: int) -> NDArray[np.bool_]:
    marks = np.zeros(classes, dtype=bool)
    marks[[int(c) for c in truth] if isinstance(truth, tuple) else [_class(truth)]] = True
    return marks


def _tags(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """How many tags are right, of how many; where the truth is -100 nothing counts.

    Tags that are missing at the end are wrong.
    """
    found = []
    for prediction, truth in zip(predictions, truths, strict=True):
        said, true = np.ravel(np.asarray(prediction)), np.ravel(np.asarray(truth))
        both = min(len(said), len(true))
        counted = true != IGNORED
        right = (said[:both] == true[:both]) & counted[:both]
        found.append((float(right.sum()), float(counted.sum())))
    return np.array(found)


def _pairs(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Predicted and true number, side by side."""
    return np.array([(_number(p), _number(t)) for p, t in zip(predictions, truths, strict=True)])


def _number(value: Truth) -> float:
    if isinstance(value, (str, tuple)) or np.size(value) != 1:
        raise ConfigError(
            f"{value!r} is not one number, which this metric needs.",
            hint="Choose a metric of the task, or give one label per sample.",
        )
    return float(np.ravel(value)[0])


def _absolute(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The mean absolute difference of each sample."""
    return np.array(
        [
            [float(np.abs(np.ravel(p).astype(np.float64) - np.ravel(t)).mean())]
            for p, t in zip(predictions, truths, strict=True)
        ]
    )


def _exact(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    return _answers(predictions, truths, lambda said, true: float(said == true))


def _overlap(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    return _answers(predictions, truths, _word_f1)


def _answers(
    predictions: Sequence[Prediction],
    truths: Sequence[Truth],
    compare: Callable[[str, str], float],
) -> Floats:
    """The best agreement of each answer with one of those accepted."""
    scores = []
    for said, accepted in zip(predictions, truths, strict=True):
        options = accepted if isinstance(accepted, tuple) else (accepted,)
        answer = normalise_answer(str(said))
        scores.append([max(compare(answer, normalise_answer(str(true))) for true in options)])
    return np.array(scores)


def normalise_answer(text: str) -> str:
    """A text without case, punctuation, English articles and extra blanks, as SQuAD compares it.

    P. Rajpurkar et al.: SQuAD (arXiv 1606.05250), the official evaluation script.
    """
    plain = "".join(mark for mark in text.lower() if mark not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def _word_f1(said: str, true: str) -> float:
    words, wanted = said.split(), true.split()
    if not words or not wanted:
        # SQuAD 2: no answer is right only where there is none.
        return float(words == wanted)
    common = sum((Counter(words) & Counter(wanted)).values())
    return 2 * common / (len(words) + len(wanted))


def _same_set(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """1 where exactly the same classes are chosen."""
    return np.array(
        [
            [float(np.array_equal(_chosen(p), _chosen(np.asarray(t))))]
            for p, t in zip(predictions, truths, strict=True)
        ]
    )


def _cosine(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
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


def _first(rows: Floats) -> Floats:
    return rows[:, 0]


def _share_influence(before: Floats, after: Floats) -> float:
    """The longest sample, with all of its tags, over the average one."""
    average = float(before[:, 1].mean())
    return float(before[:, 1].max()) / average if average else math.inf


def _micro_influence(before: Floats, after: Floats) -> float:
    """A label lost moves F1 = 2·hits / (said + true) by no more than 2 / true, one added by half.

    A sample loses and adds no more than the largest one seen has.
    """
    samples = [rows.reshape(len(rows), -1, 3) for rows in (before, after)]
    most = max(float(sample.sum(axis=(1, 2)).max()) for sample in samples)
    true = samples[0][:, :, 0] + samples[0][:, :, 2]
    # At least as many labels as samples that have one.
    least = clopper_pearson(int(np.count_nonzero(true.any(axis=1))), len(true))[0]
    return 2 * most / least if least else math.inf


def _macro_influence(before: Floats, after: Floats) -> float:
    """The rarest class decides: a hit lost moves its F1 by 2 / true, and adds a false alarm.

    Of a class that does not occur in the samples nothing is known.
    """
    true = before.reshape(len(before), -1, 3)[:, :, (0, 2)].sum(axis=(0, 2))
    least = clopper_pearson(int(true.min()), len(before))[0]
    return 3 / (len(true) * least) if least else math.inf


def _rank_influence(before: Floats, after: Floats) -> float:
    """A share h that changes moves its ranks by up to 1 and all others by up to h.

    To first order in h the covariance of two ranks in [0, 1] moves by ¾·h and a variance by 1½·h.
    """
    ones = np.ones((1, len(before)))
    said, again, true = (
        float(np.var(_ranks(column, ones) / len(before)))
        for column in (before[:, 0], after[:, 0], before[:, 1])
    )
    least = min(said, again)
    return 0.75 / math.sqrt(least * true) + 0.75 / least if least * true else math.inf


def _unbounded(before: Floats, after: Floats) -> float:
    """One value far enough off moves it anywhere."""
    return math.inf


def _of_cosines(before: Floats, after: Floats) -> float:
    """From 1 to -1."""
    return 2.0


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, _correct, mean, _first),
        Metric("token-accuracy", True, _tags, share, influence=_share_influence),
        Metric("f1-micro", True, _hits, f1_micro, influence=_micro_influence),
        Metric("f1-macro", True, _one_hits, f1_macro, influence=_macro_influence),
        Metric("pearson", True, _pairs, pearson, influence=_unbounded),
        Metric("spearman", True, _pairs, spearman, influence=_rank_influence),
        Metric("mae", False, _absolute, mean, influence=_unbounded),
        Metric("exact-match", True, _exact, mean, _first),
        Metric("answer-f1", True, _overlap, mean, _first),
        # Without labels: the reference's answer is the truth, and its own score is 1.
        Metric("agreement", True, _correct, mean, _first),
        Metric("set-agreement", True, _same_set, mean, _first),
        Metric("token-agreement", True, _tags, share, influence=_share_influence),
        Metric("answer-agreement", True, _exact, mean, _first),
        Metric("cosine-agreement", True, _cosine, mean, influence=_of_cosines),
    )
}

# What fits, the default first: by task and problem with labels, and without.
LABELLED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("text-classification", "single_label_classification"): ("accuracy", "f1-macro"),
    ("text-classification", "multi_label_classification"): ("f1-micro",),
    ("text-classification", "regression"): ("spearman", "pearson", "mae"),
    ("token-classification", ""): ("token-accuracy",),
    ("question-answering", ""): ("answer-f1", "exact-match"),
    ("feature-extraction", ""): ("spearman", "pearson"),
    ("custom", "single_label_classification"): ("accuracy", "f1-macro"),
    ("custom", "regression"): ("mae",),
}
UNLABELLED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("text-classification", "single_label_classification"): ("agreement", "cosine-agreement"),
    ("text-classification", "multi_label_classification"): ("set-agreement", "cosine-agreement"),
    ("text-classification", "regression"): ("spearman", "pearson"),
    ("token-classification", ""): ("token-agreement",),
    ("question-answering", ""): ("answer-agreement",),
    ("feature-extraction", ""): ("cosine-agreement",),
    ("fill-mask", ""): ("token-agreement",),
    # One number per sample, and anything else.
    ("custom", "regression"): ("spearman", "pearson"),
    ("custom", ""): ("cosine-agreement", "agreement"),
}


def find_metric(task: str, problem: str | None, *, labelled: bool, name: str | None) -> Metric:
    """The metric of a name, or the default of the task.

    Raises ConfigError for a name that does not fit the task or the data, naming those that do.
    """
    table = LABELLED if labelled else UNLABELLED
    fitting = table.get((task, problem or "")) or table.get((task, ""))
    if fitting is None:
        kind = "labelled" if labelled else "unlabelled"
        raise ConfigError(f"There is no metric for {kind} data of the task {task}.")
    if name is None:
        return METRICS[fitting[0]]
    if name in fitting:
        return METRICS[name]
    data = "with labels" if labelled else "without labels"
    fact = "does not fit" if name in METRICS else "is not known for"
    raise ConfigError(
        f"The metric {name!r} {fact} {task} {data}.",
        hint=f"Fitting: {', '.join(fitting)}. {nearest(name, fitting)}",
    )
