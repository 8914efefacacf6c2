"""The worst samples: flips first, then distance, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgekit.core.measurements import WorstSample
from edgekit.evaluation.metrics import IGNORED, Prediction
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.worst import worst_samples
from edgekit.sources.data import Samples
from edgekit.sources.data_columns import Label
from edgekit.sources.data_roles import Inputs
from edgekit.sources.data_spool import Spool, Stored

LABELS = ("no", "yes")


def found(
    task: str,
    before: Sequence[Prediction],
    after: Sequence[Prediction],
    gaps: Sequence[float],
    *,
    inputs: Sequence[Inputs] | None = None,
    labels: Sequence[Label] | None = None,
    problem: str | None = None,
    rows: tuple[int, ...] = (),
    metric: str = "",
    names: Sequence[str] = LABELS,
    count: int = 20,
) -> tuple[WorstSample, ...]:
    """The worst of some predictions."""
    held = tuple(inputs or [{"text": f"text {index}"} for index in range(len(before))])
    samples = Samples(
        task, held, None if labels is None else tuple(labels), ("",) * len(held),
        problem=problem, rows=rows,  # type: ignore[arg-type]
    )  # fmt: skip
    pairs = Pairs(list(before), list(after), list(gaps), decode=lambda ids: f"decoded {ids}")
    return worst_samples(samples, pairs, problem, labels=names, metric=metric, count=count)


def test_a_picture_of_a_table_is_told_by_name() -> None:
    """Its file is gone with the samples."""
    spool = Spool()
    path = spool.keep(Stored(b"picture", "a/cat.png"))
    samples = Samples("custom", ({"image": path},), None, ("",), spool=spool)
    pairs = Pairs([np.zeros(2)], [np.ones(2)], [1.0])
    (worst,) = worst_samples(samples, pairs, None, labels=(), metric="", count=1)
    assert str(path.parent) not in worst.input
    assert worst.input.startswith("image: cat.png (SHA-256 ")


def test_flips_come_before_distance() -> None:
    """A changed decision is worse than any distance, NaN worse than any number, 0 is no row."""
    before = [np.array([2.0, 0.0])] * 5
    after = [np.array(x) for x in ([9.0, 0.0], [0.0, 0.1], [2.0, 0.0], [2.1, 0.0], [1.0, 1.5])]
    worst = found(
        "text-classification", before, after, [7.0, 2.0, 0.0, math.nan, 1.5],
        problem="single_label_classification", labels=[0, 1, 0, 0, 1], rows=(11, 12, 13, 14, 15),
    )  # fmt: skip
    assert [sample.row for sample in worst] == [12, 15, 14, 11]
    assert [sample.changed for sample in worst] == [True, True, False, False]
    first = worst[0]
    assert (first.input, first.label) == ("text 1", "yes")
    assert first.reference.startswith("no 0.88")
    assert first.candidate.startswith("yes 0.52")
    assert first.distance == 2.0


def test_no_more_than_asked_for() -> None:
    """The worst of many."""
    generator = np.random.default_rng(0)
    gaps = generator.random(500).tolist()
    numbers = [float(gap) for gap in gaps]
    worst = found("feature-extraction", numbers, [0.0] * 500, gaps, count=7)
    assert [sample.distance for sample in worst] == sorted(gaps, reverse=True)[:7]
    assert not any(sample.changed for sample in worst)
    assert worst[0].row == int(np.argmax(gaps)) + 1


@pytest.mark.parametrize(
    ("task", "problem", "before", "after", "told"),
    [
        ("text-classification", "multi_label_classification", np.array([1.0, 1.0]),
         np.array([-1.0, -1.0]), ("no, yes", "none")),
        ("text-classification", "regression", np.array([1.5]), np.array([2.25]), ("1.5", "2.25")),
        ("question-answering", None, "Paris", "", ("Paris", "no answer")),
        ("fill-mask", None, np.array([5, 6, 7]), np.array([5, 9, 7]),
         ("decoded [6]", "decoded [9]")),
        ("fill-mask", None, np.array([5, 6]), np.array([5]), ("2 tokens", "1 tokens")),
        ("token-classification", None, np.array([0, 1, 0]), np.array([0, 0, IGNORED]),
         ("b yes, c no", "b no, c (cut off)")),
        ("feature-extraction", None, np.ones(9), -np.ones(9),
         ("9 numbers", "9 numbers, cosine -1.000000")),
        ("text-classification", "single_label_classification", np.array([1.0, 0.0]),
         np.array([0.0, np.nan]), ("no 0.731", "no finite numbers")),
    ],
)  # fmt: skip
def test_predictions_are_told_in_words(
    task: str,
    problem: str | None,
    before: Prediction,
    after: Prediction,
    told: tuple[str, str],
) -> None:
    """As a person of the task would."""
    inputs: Inputs = {"tokens": ("a", "b", "c")} if task.startswith("token") else {"text": "t"}
    (sample,) = found(task, [before], [after], [1.0], inputs=[inputs], problem=problem)
    assert (sample.reference, sample.candidate) == told
    assert sample.label is None


def test_hidden_words_are_told_as_likelihoods() -> None:
    """A probability has no decision that could change."""
    (sample,) = found("fill-mask", [-1.5], [-2.0], [0.3], metric="perplexity")
    assert (sample.reference, sample.candidate) == ("log-likelihood -1.5000",
                                                    "log-likelihood -2.0000")  # fmt: skip
    assert not sample.changed


@pytest.mark.parametrize(
    ("inputs", "shown"),
    [
        ({"text": "a\nb"}, "a\nb"),
        ({"question": "who?", "context": "me"}, "question: who?\ncontext: me"),
        ({"tokens": ("the", "fox")}, "the fox"),
        ({"x": np.arange(9, dtype=np.float32)}, "x: float32[9] 0 1 2 3 4 5 6 7 …"),
    ],
)
def test_inputs_are_shown(inputs: Inputs, shown: str) -> None:
    """Texts whole, arrays by what they are."""
    (sample,) = found("custom", [np.ones(1)], [np.zeros(1)], [1.0], inputs=[inputs])
    assert sample.input == shown


@pytest.mark.parametrize(
    ("task", "problem", "label", "shown"),
    [
        ("text-classification", "multi_label_classification", (), "none"),
        ("text-classification", "multi_label_classification", (0, 1), "no, yes"),
        ("text-classification", "regression", 0.5, "0.5"),
        ("custom", "regression", (0.5, 1.5), "0.5, 1.5"),
        ("custom", "single_label_classification", 7, "7"),
    ],
)
def test_labels_are_shown(task: str, problem: str, label: Label, shown: str) -> None:
    """By the model's names where it has them."""
    (sample,) = found(
        task, [np.array([1.0, 0.0])], [np.array([0.0, 1.0])], [1.0], labels=[label],
        problem=problem,
    )  # fmt: skip
    assert sample.label == shown


def test_tags_are_labelled_where_they_differ() -> None:
    """The words that differ, and what they should have been."""
    (sample,) = found(
        "token-classification", [np.array([0, 1, 0])], [np.array([0, 0, 0])], [1.0],
        inputs=[{"tokens": ("a", "b", "c")}], labels=[(0, 1, 1)],
    )  # fmt: skip
    assert (sample.label, sample.reference, sample.candidate) == ("yes", "b yes", "b no")
