"""Metrics of texts that were written: translations and summaries, against one text or several.

Values are shares of 1, so that a point of a budget is a point as papers give them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from edgekit.evaluation.metrics.kinds import Prediction, Truth
from edgekit.evaluation.statistics import Aggregate, Floats

# M. Popović: chrF: character n-gram F-score for automatic MT evaluation (2015); recall counts twice
# as much as precision.
_CHARACTERS = 6
_BETA = 2
# K. Papineni et al.: BLEU (2002).
_WORDS = 4
# Marks that stand alone in the tokens of mteval-v13a, NIST's evaluation, whose values people quote;
# commas, full stops and hyphens do where no number goes on.
_APART = re.compile(r"([{|}~\[\\\]^_`!\"#$%&()*+:;<=>?@/])")
_STOPS = (
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))

Grams: TypeAlias = Counter[tuple[str, ...]]


def character_matches(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Per length of 1 to 6 characters, blanks left out: n-grams shared, said, and of the truth.

    Those said count where the truth is long enough to have any. Of several truths the nearest
    counts.
    """

    def compare(said: str, true: str) -> list[float]:
        found: list[float] = []
        one, other = "".join(said.split()), "".join(true.split())
        for size in range(1, _CHARACTERS + 1):
            mine, wanted = _grams(one, size), _grams(other, size)
            # As in sacreBLEU: a truth too short for a length says nothing about it.
            made = mine.total() if wanted else 0
            found += [(mine & wanted).total(), made, wanted.total()]
        return found

    def value(row: list[float]) -> float:
        return float(chrf(np.array([row], dtype=np.float64), np.ones((1, 1)))[0])

    return np.array(
        [
            max((compare(str(said), true) for true in _accepted(truth)), key=value)
            for said, truth in zip(predictions, truths, strict=True)
        ],
        dtype=np.float64,
    )


def chrf(rows: Floats, weights: Floats) -> Floats:
    """The F-score of the precision and the recall, each the mean over all lengths that occur."""
    shared, said, true = (weights @ rows[:, part::3] for part in range(3))
    counted = (said > 0) & (true > 0)
    orders = np.maximum(counted.sum(axis=1), 1)
    precision, recall = (
        np.where(counted, shared / np.maximum(whole, 1), 0.0).sum(axis=1) / orders
        for whole in (said, true)
    )
    below = _BETA**2 * precision + recall
    made = (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1.0)
    return np.asarray(np.where(below > 0, made, 0.0))


def word_matches(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Words said and of the truth, then per length of 1 to 4 words: n-grams shared, and said.

    Of several truths an n-gram may match any, as often as it stands in one of them; the length is
    that of the nearest in length.
    """
    rows = []
    for said, truth in zip(predictions, truths, strict=True):
        words = tokens(str(said))
        others = [tokens(true) for true in _accepted(truth)]
        nearest = min(map(len, others), key=lambda size: (abs(size - len(words)), size))
        row: list[float] = [len(words), nearest]
        for size in range(1, _WORDS + 1):
            mine = _grams(words, size)
            wanted: Grams = Counter()
            for one in others:
                wanted |= _grams(one, size)
            row += [(mine & wanted).total(), mine.total()]
        rows.append(row)
    return np.array(rows, dtype=np.float64)


def bleu(rows: Floats, weights: Floats) -> Floats:
    """The geometric mean of the precisions, less what is too short.

    A length of which nothing matches counts as half a match, the next one as a quarter (as
    mteval-v13a does); where there is no such n-gram at all the value is 0.
    """
    sums = weights @ rows
    said, true = sums[:, 0], sums[:, 1]
    shared, made = sums[:, 2::2], sums[:, 3::2]
    halves = 2.0 ** np.cumsum(shared == 0, axis=1)
    precisions = np.where(shared > 0, shared, 1 / halves) / np.maximum(made, 1)
    brevity = np.exp(np.minimum(0.0, 1 - true / np.maximum(said, 1)))
    value = brevity * np.exp(np.log(precisions).mean(axis=1))
    return np.asarray(np.where((made > 0).all(axis=1) & (shared > 0).any(axis=1), value, 0.0))


def match_influence(
    aggregate: Aggregate, columns: slice, length: slice = slice(0)
) -> Callable[[Floats, Floats], float]:
    """How far a share of the samples can move a value that grows with matches, per share.

    Each may hold as many matches as the sample with the most; the value goes with the matches of
    every length, whose `columns` these are, and with how much was said, where `length` tells that.
    """

    def influence(before: Floats, after: Floats) -> float:
        both = [part[:, columns] for part in (before, after)]
        average = both[0].mean(axis=0)
        if not average.all():
            return float("inf")
        most = np.maximum(*(part.max(axis=0) for part in both))
        said = before[:, length]
        longest = (said.max(axis=0) / said.mean(axis=0)).sum()
        whole = float(aggregate(before, np.ones((1, len(before))))[0])
        return whole * float((most / average).mean() + longest)

    return influence


def rouge(size: int) -> Callable[[Sequence[Prediction], Sequence[Truth]], Floats]:
    """The F1 of the n-grams of so many words that a summary shares with the nearest truth.

    C. Lin: ROUGE: a package for automatic evaluation of summaries (2004).
    """

    def shared(said: Sequence[str], true: Sequence[str]) -> float:
        mine, wanted = _grams(said, size), _grams(true, size)
        return _f1((mine & wanted).total(), mine.total(), wanted.total())

    return _summaries(shared)


def rouge_l(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The same of the longest run of words, others between them allowed, that both have."""

    def shared(said: Sequence[str], true: Sequence[str]) -> float:
        return _f1(longest_common(said, true), len(said), len(true))

    return _summaries(shared)(predictions, truths)


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest sequence that is left of both when others are taken out."""
    names = {name: number for number, name in enumerate(dict.fromkeys((*first, *second)))}
    one, other = (np.array([names[name] for name in side], np.intp) for side in (first, second))
    row = np.zeros(len(other) + 1, np.intp)
    for name in one.tolist():
        met = np.maximum(row[1:], row[:-1] + (other == name))
        row = np.maximum.accumulate(np.concatenate([[0], met]))
    return int(row[-1])


def tokens(text: str) -> list[str]:
    """Words and marks as mteval-v13a tells them apart."""
    # Blanks go before lines are joined: what is behind the last line is no next one.
    plain = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in _ENTITIES:
        plain = plain.replace(entity, mark)
    plain = _APART.sub(r" \1 ", f" {plain} ")
    for pattern, apart in _STOPS:
        plain = pattern.sub(apart, plain)
    return plain.split()


def _summaries(
    shared: Callable[[Sequence[str], Sequence[str]], float],
) -> Callable[[Sequence[Prediction], Sequence[Truth]], Floats]:
    """One score of each text, by the words in it: case and marks do not count."""

    def rows(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
        return np.array(
            [
                [max(shared(_words(str(said)), _words(true)) for true in _accepted(truth))]
                for said, truth in zip(predictions, truths, strict=True)
            ],
            dtype=np.float64,
        )

    return rows


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _f1(shared: int, said: int, true: int) -> float:
    return 2 * shared / (said + true) if said + true else 0.0


def _grams(sequence: Sequence[str], size: int) -> Grams:
    """How often each run of `size` stands in a text, or in a list of words."""
    return Counter(
        tuple(sequence[start : start + size]) for start in range(len(sequence) - size + 1)
    )


def _accepted(truth: Truth) -> list[str]:
    several = truth if isinstance(truth, tuple) else (truth,)
    return [str(one) for one in several]
