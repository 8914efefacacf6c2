"""Metrics: their values are scikit-learn's and scipy's, resample by resample."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics import (
    IGNORED,
    LABELLED,
    METRICS,
    UNLABELLED,
    cosine,
    find_metric,
    normalise_answer,
)
from edgekit.evaluation.statistics import draw_counts

SAMPLES = 80
DRAWS = 6


def check_against(
    name: str,
    predictions: list[np.ndarray],
    truths: list[object],
    expected: Callable[[list[int]], float],
) -> None:
    """The metric of draws, weighted, is the library's on the drawn samples themselves."""
    metric = METRICS[name]
    rows = metric.rows(predictions, truths)  # type: ignore[arg-type]
    weights = draw_counts(np.random.default_rng(1), len(predictions), DRAWS)
    weights[0] = 1
    found = metric.aggregate(rows, weights)
    for value, counts in zip(found, weights, strict=True):
        drawn = [index for index, count in enumerate(counts) for _ in range(int(count))]
        assert value == pytest.approx(expected(drawn))


def test_accuracy_is_that_of_sklearn() -> None:
    """The class of the largest logit, held against class numbers."""
    generator = np.random.default_rng(0)
    logits = list(generator.normal(size=(SAMPLES, 3)))
    labels = [int(label) for label in generator.integers(0, 3, SAMPLES)]
    said = [int(row.argmax()) for row in logits]

    def expected(drawn: list[int]) -> float:
        pairs = [labels[i] for i in drawn], [said[i] for i in drawn]
        return float(sklearn_metrics.accuracy_score(*pairs))

    check_against("accuracy", logits, labels, expected)


def test_macro_f1_is_that_of_sklearn() -> None:
    """Classes that neither occur nor are predicted are left out of the mean."""
    generator = np.random.default_rng(0)
    shift = np.array([3.0, 1.0, 0.0, -2.0, -9.0])
    logits = list(generator.normal(size=(SAMPLES, 5)) + shift)
    labels = [int(label) for label in generator.integers(0, 4, SAMPLES)]
    said = [int(row.argmax()) for row in logits]

    def expected(drawn: list[int]) -> float:
        pairs = [labels[i] for i in drawn], [said[i] for i in drawn]
        return float(sklearn_metrics.f1_score(*pairs, average="macro"))

    check_against("f1-macro", logits, labels, expected)


def test_multi_label_f1_is_that_of_sklearn() -> None:
    """A class is chosen where its sigmoid is above one half."""
    generator = np.random.default_rng(0)
    logits = list(generator.normal(size=(SAMPLES, 4)))
    truth = generator.random((SAMPLES, 4)) < 0.4
    labels = [tuple(np.flatnonzero(row).tolist()) for row in truth]
    said = np.array(logits) > 0

    def expected(drawn: list[int]) -> float:
        return float(sklearn_metrics.f1_score(truth[drawn], said[drawn], average="micro"))

    check_against("f1-micro", logits, labels, expected)


@pytest.mark.parametrize(
    ("name", "function"), [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)]
)
def test_correlations_are_those_of_scipy(name: str, function: Callable[..., object]) -> None:
    """With ties, which every resample makes."""
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal(size=SAMPLES), 1)
    predictions = list(scores + generator.normal(size=SAMPLES))

    def expected(drawn: list[int]) -> float:
        pairs = np.array(predictions)[drawn], scores[drawn]
        return float(function(*pairs).statistic)  # type: ignore[attr-defined]

    check_against(name, predictions, [float(score) for score in scores], expected)


def test_the_absolute_error_is_that_of_sklearn() -> None:
    """Over all numbers of a sample, and then over samples."""
    generator = np.random.default_rng(0)
    predictions, truths = generator.normal(size=(2, SAMPLES, 3))

    def expected(drawn: list[int]) -> float:
        return float(sklearn_metrics.mean_absolute_error(truths[drawn], predictions[drawn]))

    check_against("mae", list(predictions), [tuple(row) for row in truths], expected)
    assert not METRICS["mae"].higher_is_better


def test_token_accuracy_counts_tags_and_not_sentences() -> None:
    """Long sentences weigh more, ignored tags nothing, and missing ones are wrong."""
    metric = METRICS["token-accuracy"]
    rows = metric.rows(
        [np.array([1, 1, 1, 1]), np.array([2]), np.array([1])],
        [(1, 1, 0, IGNORED), (2,), (1, 2)],
    )
    assert metric.aggregate(rows, np.ones((1, 3)))[0] == pytest.approx(4 / 6)
    assert metric.influence is not None
    assert metric.influence(rows, rows) == pytest.approx(3 / 2)


def test_no_change_moves_a_metric_further_than_its_influence() -> None:
    """A single sample turned to its worst moves every metric by less than the bound says."""
    generator = np.random.default_rng(3)
    truth = generator.permutation(np.repeat([0, 1, 2], [250, 200, 50]))
    eye = np.eye(3)
    marks = generator.random((500, 3)) < 0.4
    numbers = generator.normal(size=500)
    near = numbers + generator.normal(scale=0.3, size=500)
    cases = {
        "f1-macro": (list(truth), list(eye[truth]), lambda i: eye[(truth[i] + 1) % 3]),
        "f1-micro": (
            [np.where(row, 1.0, -1.0) for row in marks],
            [np.where(row, 1.0, -1.0) for row in marks],
            lambda i: np.where(marks[i], -1.0, 1.0),
        ),
        "spearman": (list(numbers), list(near), lambda i: -10.0 * np.sign(near[i])),
    }
    ones = np.ones((1, 500))
    for name, (true, said, worst) in cases.items():
        metric = METRICS[name]
        before = metric.rows(said, true)
        assert metric.influence is not None
        for index in range(0, 500, 25):
            harmed = [worst(i) if i == index else one for i, one in enumerate(said)]
            after = metric.rows(harmed, true)
            moved = abs(metric.aggregate(before, ones)[0] - metric.aggregate(after, ones)[0])
            assert 0 < moved <= metric.influence(before, after) / 500


def test_an_unharmed_candidate_passes_where_classes_are_common() -> None:
    """The bound is not so wide that macro-F1 never passes; of an unseen class nothing is known."""
    metric = METRICS["f1-macro"]
    assert metric.influence is not None
    truth = [0, 1] * 1500
    rows = metric.rows(list(np.eye(2)[truth]), truth)
    assert metric.influence(rows, rows) * 3 / 3000 < 0.01
    rows = metric.rows(list(np.eye(3)[truth]), truth)
    assert metric.influence(rows, rows) == math.inf


@pytest.mark.parametrize(
    ("said", "accepted", "exact", "overlap"),
    [
        ("the Eiffel Tower!", ("Eiffel tower",), 1, 1),
        ("in Paris", ("Paris", "the city of Paris"), 0, 2 / 3),
        ("London", ("Paris",), 0, 0),
        ("", ("",), 1, 1),
        ("something", ("",), 0, 0),
        ("a b c d", ("b d e",), 0, 2 * 2 / 6),
    ],
)
def test_answers_are_scored_as_squad_does(
    said: str, accepted: tuple[str, ...], exact: float, overlap: float
) -> None:
    """Case, punctuation and articles do not count, and the best accepted answer does."""
    for name, expected in (("exact-match", exact), ("answer-f1", overlap)):
        rows = METRICS[name].rows([said], [accepted])
        assert rows[0, 0] == pytest.approx(expected)


def test_an_answer_is_normalised() -> None:
    """As the official script does it."""
    assert normalise_answer("  The  Cat's  hat, a (red) one. ") == "cats hat red one"


@pytest.mark.parametrize(
    "name",
    ["agreement", "set-agreement", "token-agreement", "answer-agreement", "cosine-agreement"],
)
def test_the_reference_agrees_with_itself(name: str) -> None:
    """Without labels the reference's own value is 1."""
    vectors = [np.array([1.0, -2.0]), np.array([0.5, 3.0])]
    answers: list[object] = ["Paris", "London"] if "answer" in name else vectors  # type: ignore[assignment]
    metric = METRICS[name]
    rows = metric.rows(answers, answers)  # type: ignore[arg-type]
    assert metric.aggregate(rows, np.ones((1, 2)))[0] == pytest.approx(1)


def test_agreement_is_about_the_decision() -> None:
    """Other logits with the same largest one agree; sets agree only as a whole."""
    ours, theirs = [np.array([0.1, 2.0, 1.0])], [np.array([1.0, 5.0, -4.0])]
    assert METRICS["agreement"].rows(ours, theirs)[0, 0] == 1
    assert METRICS["set-agreement"].rows(ours, theirs)[0, 0] == 0


def test_the_cosine_of_nothing_is_defined() -> None:
    """Two zero vectors agree, one zero vector agrees with nothing."""
    zero, one = np.zeros(3), np.ones(3)
    assert (cosine(zero, zero), cosine(zero, one)) == (1, 0)
    assert cosine(one, -one) == pytest.approx(-1)


def test_every_metric_in_the_tables_exists() -> None:
    """A default is never a name without a metric."""
    names = {name for table in (LABELLED, UNLABELLED) for row in table.values() for name in row}
    assert names == set(METRICS)


def test_the_default_follows_from_task_and_labels() -> None:
    """The first of those that fit."""
    for task, problem, labelled, expected in (
        ("text-classification", "single_label_classification", True, "accuracy"),
        ("text-classification", "regression", True, "spearman"),
        ("text-classification", "single_label_classification", False, "agreement"),
        ("feature-extraction", "regression", True, "spearman"),
        ("custom", "regression", True, "mae"),
        ("custom", None, False, "cosine-agreement"),
    ):
        found = find_metric(task, problem, labelled=labelled, name=None)
        assert found.name == expected


def test_a_metric_that_does_not_fit_is_refused() -> None:
    """The error names those that fit, and the nearest."""
    with pytest.raises(ConfigError, match="does not fit") as caught:
        find_metric("question-answering", None, labelled=True, name="accuracy")
    assert "answer-f1" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="not known") as caught:
        find_metric("feature-extraction", None, labelled=True, name="spearmann")
    assert "'spearman'" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="no metric"):
        find_metric("fill-mask", None, labelled=True, name=None)


def test_one_number_is_needed_for_a_correlation() -> None:
    """A vector where a number goes is a configuration error, not a wrong value."""
    with pytest.raises(ConfigError, match="not one number"):
        METRICS["pearson"].rows([np.ones(2)], [1.0])
    with pytest.raises(ConfigError, match="not a class"):
        METRICS["accuracy"].rows([np.ones(2)], [(0, 1)])
