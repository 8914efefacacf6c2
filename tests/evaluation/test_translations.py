"""Metrics of written texts: beside other implementations, and draws that are counted anew."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from rapidfuzz.distance import LCSseq
from sacrebleu.metrics import BLEU, CHRF
from sklearn.feature_extraction.text import CountVectorizer

from edgekit.evaluation.metrics import METRICS, Truth, find_metric
from edgekit.evaluation.metrics.translations import longest_common, tokens
from edgekit.evaluation.statistics import draw_counts
from tests.evaluation.sentences import SENTENCES

# The example of sacreBLEU's README, whose values stand there.
SAID = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
TRUE: list[Truth] = [
    ("The dog bit the man.", "The dog had bit the man."),
    ("It was not unexpected.", "No one was surprised."),
    ("The man bit him first.", "The man had bitten the dog."),
]
# The one of the ROUGE package of Google Research.
FOX = "The quick brown fox jumps over the lazy dog"
DOG = "The quick brown dog jumps on the log."


def value(name: str, said: list[str], true: list[Truth]) -> float:
    """The metric over some texts."""
    metric = METRICS[name]
    rows = metric.rows(said, true)
    return float(metric.aggregate(rows, np.ones((1, len(rows))))[0])


def sacrebleu(name: str, said: Sequence[str], true: Sequence[Sequence[str]]) -> float:
    """The same by sacreBLEU."""
    # It takes an empty truth for none at all; blanks alone it reads, as nothing.
    told = [[one or " " for one in some] for some in true]
    most = max(map(len, told))
    streams = [[some[at] if at < len(some) else None for some in told] for at in range(most)]
    metric = CHRF() if name == "chrf" else BLEU()
    return float(metric.corpus_score(said, streams).score) / 100


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_every_text_has_the_value_of_sacrebleu(name: str, most: int) -> None:
    """Alone, in any script, with one truth or several."""
    for said, true in SENTENCES:
        some = true[:most]
        assert value(name, [said], [some]) == pytest.approx(
            sacrebleu(name, [said], [some]), abs=1e-12
        ), (said, some)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_texts_together_have_the_value_of_sacrebleu(name: str, most: int) -> None:
    """Its counts are added up as ours are: over all of them, and over a few drawn at random."""
    drawn = np.random.default_rng(0)
    draws = [list(range(len(SENTENCES)))]
    draws += [drawn.integers(0, len(SENTENCES), 1 + turn % 8).tolist() for turn in range(60)]
    for places in draws:
        said = [SENTENCES[place][0] for place in places]
        true = [SENTENCES[place][1][:most] for place in places]
        assert value(name, said, list(true)) == pytest.approx(
            sacrebleu(name, said, true), abs=1e-12
        ), places


@pytest.mark.parametrize("size", [1, 2])
def test_shared_words_are_those_that_sklearn_counts(size: int) -> None:
    """ROUGE of runs of words, each counted as often as it stands in both."""
    read = CountVectorizer(
        ngram_range=(size, size), token_pattern=r"[^\W_]+", preprocessor=str.casefold
    ).build_analyzer()

    def expected(said: str, true: str) -> float:
        mine, wanted = Counter(read(said)), Counter(read(true))
        return 2 * (mine & wanted).total() / max(1, mine.total() + wanted.total())

    for said, true in SENTENCES:
        best = max(expected(said, one) for one in true)
        assert value(f"rouge-{size}", [said], [true]) == pytest.approx(best), (said, true)


def test_the_longest_sequence_is_that_of_rapidfuzz() -> None:
    """Of characters, and of words as ROUGE-L compares them."""
    read = CountVectorizer(token_pattern=r"[^\W_]+", preprocessor=str.casefold).build_analyzer()
    truths = [true[0] for _, true in SENTENCES]
    for (said, _), true in zip(SENTENCES, truths[1:] + truths[:1], strict=True):
        assert longest_common(said, true) == LCSseq.similarity(said, true), (said, true)
    for said, some in SENTENCES:
        mine, others = read(said), [read(true) for true in some]
        best = max(
            2 * LCSseq.similarity(mine, one) / max(1, len(mine) + len(one)) for one in others
        )
        assert value("rouge-l", [said], [some]) == pytest.approx(best), (said, some)


@pytest.mark.parametrize(("name", "expected"), [("bleu", 0.4853), ("chrf", 0.5973)])
def test_values_are_those_of_sacrebleu(name: str, expected: float) -> None:
    """Of several truths for every text."""
    assert value(name, SAID, TRUE) == pytest.approx(expected, abs=5e-5)


def test_a_text_may_have_one_truth_and_another_two() -> None:
    """Also a value of sacreBLEU's README: the length is that of the nearest truth."""
    fewer: list[Truth] = ["The dog had bit the man.", *TRUE[1:]]
    assert value("bleu", SAID, fewer) == pytest.approx(0.2944, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "expected"), [("rouge-1", 12 / 17), ("rouge-2", 4 / 15), ("rouge-l", 10 / 17)]
)
def test_values_are_those_of_rouge(name: str, expected: float) -> None:
    """Words count without their case and marks; of several truths the nearest does."""
    assert value(name, [DOG], [FOX]) == pytest.approx(expected)
    assert value(name, [DOG], [("nothing alike", FOX)]) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge-1", "rouge-2", "rouge-l"])
def test_the_ends_of_the_scale(name: str) -> None:
    """1 for the same text, 0 for nothing in common, nothing at all, or no run of words so long."""
    text = "A man bit his neighbour's dog yesterday."
    assert value(name, [text], [text]) == pytest.approx(1)
    assert value(name, ["xyz"], ["quick brown"]) == 0
    assert value(name, [""], [text]) == 0
    assert value(name, [""], [""]) == 0
    assert value(name, ["yes"], ["no"]) == 0


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_draws_are_counted_as_their_texts_are(name: str) -> None:
    """A resample's value is that of the texts that it holds, each as often as it was drawn."""
    said = [*SAID, DOG, "", "The man"]
    true: list[Truth] = [*TRUE, FOX, "Gone.", "The man bit the dog."]
    metric = METRICS[name]
    weights = draw_counts(np.random.default_rng(0), len(said), 20)
    found = metric.aggregate(metric.rows(said, true), weights)
    for row, counts in zip(found, weights, strict=True):
        drawn = [index for index, count in enumerate(counts) for _ in range(int(count))]
        expected = value(name, [said[i] for i in drawn], [true[i] for i in drawn])
        assert row == pytest.approx(expected)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_the_influence_bounds_what_losing_a_text_costs(name: str) -> None:
    """An answer that becomes empty moves the value by no more than its share allows."""
    metric = METRICS[name]
    before = metric.rows(SAID * 40, TRUE * 40)
    said = [*SAID * 40]
    said[0] = ""
    after = metric.rows(said, TRUE * 40)
    assert metric.influence is not None
    ones = np.ones((1, len(before)))
    moved = float((metric.aggregate(before, ones) - metric.aggregate(after, ones))[0])
    assert 0 < moved <= metric.influence(before, after) / len(before) * 1.01
    none = metric.rows(["xyz"], ["quick brown fox"])
    assert metric.influence(none, none) == math.inf


def test_tokens_are_those_of_mteval() -> None:
    """Marks stand alone, but for the comma of a number and the point of a fraction."""
    assert tokens('Said: "1,000.50 dogs-and-cats," isn\'t 3-4 &amp; 5.') == [
        "Said", ":", '"', "1,000.50", "dogs-and-cats", ",", '"', "isn't", "3", "-", "4", "&",
        "5", ".",
    ]  # fmt: skip


def test_the_longest_sequence_that_both_have() -> None:
    """Others between do not matter, the order does."""
    assert longest_common("abcbdab", "bdcaba") == 4
    assert longest_common("", "abc") == 0
    assert longest_common(["a", "b"], ["b", "a"]) == 1


def test_texts_agree_where_they_are_the_same() -> None:
    """But for blanks around them; case and marks count."""
    metric = find_metric("text2text-generation", None, labelled=False, name=None)
    assert metric.name == "text-agreement"
    assert value(metric.name, [" A dog.", "A dog", "a dog."], ["A dog."] * 3) == pytest.approx(
        1 / 3
    )
