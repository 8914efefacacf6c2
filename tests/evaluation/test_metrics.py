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
    NAMED,
    UNLABELLED,
    cosine,
    find_metric,
    normalise_answer,
)
from edgekit.evaluation.metrics.tags import entity_spans
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


@pytest.mark.parametrize("classes", [2, 4])
def test_matthews_is_that_of_sklearn(classes: int) -> None:
    """Also of more than two classes."""
    generator = np.random.default_rng(0)
    labels = [int(label) for label in generator.integers(0, classes, SAMPLES)]
    logits = list(generator.normal(size=(SAMPLES, classes)) + 1.2 * np.eye(classes)[labels])
    said = [int(row.argmax()) for row in logits]

    def expected(drawn: list[int]) -> float:
        pairs = [labels[i] for i in drawn], [said[i] for i in drawn]
        return float(sklearn_metrics.matthews_corrcoef(*pairs))

    check_against("matthews", logits, labels, expected)


def test_matthews_of_a_single_class_is_nothing() -> None:
    """No correlation with what never changes; scikit-learn says 0 too."""
    metric = METRICS["matthews"]
    rows = metric.rows([np.array([2.0, 1.0])] * 3, [0, 1, 0])
    assert metric.aggregate(rows, np.ones((1, 3)))[0] == 0
    assert metric.influence is not None
    assert metric.influence(rows, rows) == math.inf


def test_binary_f1_is_that_of_sklearn() -> None:
    """The F1 of class 1."""
    generator = np.random.default_rng(0)
    logits = list(generator.normal(size=(SAMPLES, 2)))
    labels = [int(label) for label in generator.integers(0, 2, SAMPLES)]
    said = [int(row.argmax()) for row in logits]

    def expected(drawn: list[int]) -> float:
        return float(sklearn_metrics.f1_score([labels[i] for i in drawn], [said[i] for i in drawn]))

    check_against("f1-binary", logits, labels, expected)
    with pytest.raises(ConfigError, match="this one has 3"):
        METRICS["f1-binary"].rows([np.ones(3)], [1])


@pytest.mark.parametrize("count", [2, 5])
def test_top_accuracy_is_that_of_sklearn(count: int) -> None:
    """Any number of classes below the model's."""
    generator = np.random.default_rng(0)
    logits = list(generator.normal(size=(SAMPLES, 7)))
    labels = [int(label) for label in generator.integers(0, 7, SAMPLES)]
    metric = find_metric(
        "custom", "single_label_classification", labelled=True, name=f"top-{count}-accuracy"
    )
    rows = metric.rows(logits, labels)
    expected = sklearn_metrics.top_k_accuracy_score(
        labels, np.array(logits), k=count, labels=range(7)
    )
    assert metric.aggregate(rows, np.ones((1, SAMPLES)))[0] == pytest.approx(expected)
    with pytest.raises(ConfigError, match="always 1 for a model of 2 classes"):
        metric.rows([np.ones(2)], [1])


def test_of_equal_logits_the_first_is_on_top() -> None:
    """As accuracy has it."""
    logits, labels = [np.zeros(3)] * 3, [0, 1, 2]
    rows = find_metric("custom", "single_label_classification", labelled=True,
                       name="top-1-accuracy").rows(logits, labels)  # fmt: skip
    np.testing.assert_array_equal(rows, METRICS["accuracy"].rows(logits, labels))


TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC")


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        # Two neighbours of one kind.
        ("B-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        # An I- without a beginning, and of another kind than the tag before it, begin one.
        ("O I-PER I-PER", {("PER", 1, 3)}),
        ("B-PER I-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3)}),
        # Nothing goes on behind an end, and a single one stands alone.
        ("B-LOC I-LOC E-LOC I-LOC", {("LOC", 0, 3), ("LOC", 3, 4)}),
        ("S-LOC I-LOC", {("LOC", 0, 1), ("LOC", 1, 2)}),
        ("", set()),
    ],
)
def test_entities_are_read_as_conll_does(tags: str, spans: set[tuple[str, int, int]]) -> None:
    """Also from tags that break their own rules."""
    assert entity_spans(tags.split()) == spans


def test_entity_f1_counts_whole_entities() -> None:
    """Kind and both ends must be right; tags of -100 are not there."""
    metric = find_metric(
        "token-classification", None, labelled=True, name="entity-f1", classes=TAGS
    )
    number = {name: index for index, name in enumerate(TAGS)}

    def tagged(text: str) -> np.ndarray:
        return np.array([number.get(tag, IGNORED) for tag in text.split()])

    # One of two right, one with a wrong end; then a false one, beside a tag nobody counts.
    said = [tagged("B-PER I-PER O B-LOC I-LOC"), tagged("B-LOC I-LOC")]
    true = [tagged("B-PER I-PER O B-LOC O"), tagged("- O")]
    rows = metric.rows(said, true)
    np.testing.assert_array_equal(rows, [[1, 1, 1], [0, 1, 0]])
    precision, recall = 1 / 3, 1 / 2
    value = metric.aggregate(rows, np.ones((1, 2)))[0]
    assert value == pytest.approx(2 * precision * recall / (precision + recall))
    assert metric.influence is not None
    assert metric.influence(rows, rows) > 1
    # Where the candidate saw less of the text.
    short = metric.rows([tagged("B-PER I-PER -"), tagged("B-PER")], [tagged("O O B-LOC")] * 2)
    np.testing.assert_array_equal(short, [[0, 1, 1], [0, 1, 1]])


@pytest.mark.parametrize("names", [(), ("O", "PER"), ("LABEL_0", "LABEL_1")])
def test_entities_need_entity_tags(names: tuple[str, ...]) -> None:
    """Numbers or bare kinds tell no entity from its neighbour."""
    with pytest.raises(ConfigError, match="B-PER, I-PER and O"):
        find_metric("token-classification", None, labelled=True, name="entity-f1", classes=names)


def test_the_squared_error_is_that_of_sklearn() -> None:
    """The root of its mean, and lower is better."""
    generator = np.random.default_rng(0)
    predictions, truths = generator.normal(size=(2, SAMPLES))

    def expected(drawn: list[int]) -> float:
        return float(sklearn_metrics.root_mean_squared_error(truths[drawn], predictions[drawn]))

    check_against("rmse", list(predictions), [float(one) for one in truths], expected)
    assert not METRICS["rmse"].higher_is_better


def test_perplexity_is_e_to_the_mean_surprise() -> None:
    """A model that finds each word at one in four has a perplexity of 4."""
    metric = METRICS["perplexity"]
    rows = metric.rows([math.log(0.25)] * 3, [0.0] * 3)
    assert metric.aggregate(rows, np.ones((1, 3)))[0] == pytest.approx(4)
    rows = metric.rows([math.log(0.5), math.log(0.125)], [0.0] * 2)
    assert metric.aggregate(rows, np.ones((1, 2)))[0] == pytest.approx(4)
    assert not metric.higher_is_better


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
    cases = {
        "f1-macro": (list(truth), list(eye[truth]), lambda i: eye[(truth[i] + 1) % 3]),
        "matthews": (list(truth), list(eye[truth]), lambda i: eye[(truth[i] + 1) % 3]),
        "f1-binary": (
            list(np.minimum(truth, 1)),
            list(np.eye(2)[np.minimum(truth, 1)]),
            lambda i: np.eye(2)[1 - min(truth[i], 1)],
        ),
        "f1-micro": (
            [np.where(row, 1.0, -1.0) for row in marks],
            [np.where(row, 1.0, -1.0) for row in marks],
            lambda i: np.where(marks[i], -1.0, 1.0),
        ),
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


def test_samples_that_say_nothing_take_their_share_of_a_rank_correlation() -> None:
    """Noise in place of a tenth of the answers costs a tenth of the correlation."""
    generator = np.random.default_rng(6)
    true = generator.normal(size=20_000)
    said = true + generator.normal(scale=0.5, size=20_000)
    noise = generator.permutation(said)
    metric = METRICS["spearman"]
    ones = np.ones((1, 20_000))
    before = metric.rows(list(said), list(true))
    after = metric.rows(list(np.where(np.arange(20_000) < 2000, noise, said)), list(true))
    lost = metric.aggregate(before, ones)[0] - metric.aggregate(after, ones)[0]
    assert metric.influence is not None
    assert lost == pytest.approx(0.1 * metric.influence(before, after), rel=0.1)


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
    assert names == set(METRICS) | set(NAMED)


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
