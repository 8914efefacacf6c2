"""Errors of words and characters, against values that are known and another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from edgekit.evaluation.metrics import find_metric
from edgekit.evaluation.metrics.speech import distance, error_influence
from tests.evaluation.sentences import SENTENCES

SPEECH = "automatic-speech-recognition"


def value(name: str, said: list[str], true: list[str], *, labelled: bool = True) -> float:
    """A metric over all samples."""
    metric = find_metric(SPEECH, None, labelled=labelled, name=name)
    rows = metric.rows(said, true)
    return float(metric.aggregate(rows, np.ones((1, len(rows))))[0])


@pytest.mark.parametrize(
    ("first", "second", "errors"),
    [
        ("kitten", "sitting", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("abc", "abc", 0),
        ("flaw", "lawn", 2),
        ("intention", "execution", 5),
        ("ab", "ba", 2),
    ],
)
def test_distances(first: str, second: str, errors: int) -> None:
    """Of textbooks; the same both ways."""
    assert distance(list(first), list(second)) == errors
    assert distance(list(second), list(first)) == errors


def plain(text: str) -> str:
    """Lower case without marks: what is compared of a text."""
    return "".join(one if one.isalnum() or one == "'" else " " for one in text.casefold())


def test_distances_are_those_of_rapidfuzz() -> None:
    """Of characters and of words, of texts that are alike and of others."""
    truths = [true[0] for _, true in SENTENCES]
    for others in (truths, truths[1:] + truths[:1]):
        for (said, _), true in zip(SENTENCES, others, strict=True):
            assert distance(said, true) == Levenshtein.distance(said, true), (said, true)
            mine, wanted = said.split(), true.split()
            assert distance(mine, wanted) == Levenshtein.distance(mine, wanted), (said, true)


@pytest.mark.parametrize("name", ["wer", "cer"])
def test_errors_over_all_are_those_of_rapidfuzz(name: str) -> None:
    """Its distances of all texts together, over all that is true; and of each alone."""
    said = [plain(text) for text, _ in SENTENCES]
    true = [plain(some[0]) for _, some in SENTENCES]
    units = [
        [text.split() if name == "wer" else list(" ".join(text.split())) for text in texts]
        for texts in (said, true)
    ]
    errors = [Levenshtein.distance(mine, wanted) for mine, wanted in zip(*units, strict=True)]
    lengths = [len(wanted) for wanted in units[1]]
    assert value(name, said, true) == pytest.approx(sum(errors) / sum(lengths))
    for at, (wrong, length) in enumerate(zip(errors, lengths, strict=True)):
        if length:
            assert value(name, [said[at]], [true[at]]) == pytest.approx(wrong / length), said[at]


def test_word_errors_are_counted_over_all_words() -> None:
    """Not averaged over sentences: long ones weigh more."""
    said = ["the cat sat", "one"]
    true = ["the cat sat down on mats", "two"]
    assert value("wer", said, true) == pytest.approx(4 / 7)


def test_case_and_marks_do_not_count() -> None:
    """Apostrophes do: they tell words apart."""
    assert value("wer", ["DON'T STOP NOW"], ["Don't stop — now!"]) == 0
    assert value("wer", ["dont"], ["don't"]) == 1


def test_characters() -> None:
    """Blanks between words among them."""
    assert value("cer", ["abcd"], ["ab cd"]) == pytest.approx(1 / 5)


def test_words_that_nobody_said() -> None:
    """More errors than words, and none of nothing."""
    assert value("wer", ["a b c"], ["a"]) == 2
    assert value("word-agreement", ["a b c"], ["a"], labelled=False) == 0
    assert value("word-agreement", ["", "a b"], ["", "a c"], labelled=False) == pytest.approx(2 / 3)


def test_influence_is_that_of_the_longest() -> None:
    """One sentence of ten words among nine of one, or one with twenty errors."""
    before = np.array([[0, 1]] * 9 + [[0, 10]], np.float64)
    assert error_influence(before, before) == pytest.approx(10 / 1.9)
    after = before.copy()
    after[0, 0] = 20
    assert error_influence(before, after) == pytest.approx(20 / 1.9)
