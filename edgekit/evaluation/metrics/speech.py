"""Metrics of what was said: errors of words and of characters against a transcript."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

import numpy as np

from edgekit.evaluation.metrics.kinds import Prediction, Truth
from edgekit.evaluation.statistics import Floats

# Apostrophes are part of words.
_MARKS = str.maketrans(dict.fromkeys(string.punctuation.replace("'", "") + "…–—“”„«»¿¡", " "))


def word_errors(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """Words put in, left out or changed, and the words of the transcript.

    Case and punctuation do not count: models of speech write capitals alone, or none, and no marks.
    """
    return _errors([_words(said) for said in predictions], [_words(true) for true in truths])


def character_errors(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The same of characters, blanks between words among them."""
    return _errors(
        [list(" ".join(_words(said))) for said in predictions],
        [list(" ".join(_words(true))) for true in truths],
    )


def words_kept(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The words of the transcript less the errors, but not less than none, and all of them.

    Where both are without a word, they agree on that.
    """
    rows = word_errors(predictions, truths)
    silent = (rows[:, 1] == 0) & (rows[:, 0] == 0)
    kept = np.where(silent, 1, np.maximum(rows[:, 1] - rows[:, 0], 0))
    return np.stack([kept, np.maximum(rows[:, 1], 1)], axis=1)


def error_influence(before: Floats, after: Floats) -> float:
    """The longest transcript, or the most errors that were made, over the average transcript."""
    average = float(before[:, 1].mean())
    most = max(float(before.max()), float(after.max()))
    return most / average if average else math.inf


def distance(first: Sequence[str], second: Sequence[str]) -> int:
    """How many insertions, deletions and replacements make one sequence of the other.

    V. Levenshtein: Binary codes capable of correcting deletions, insertions and reversals (1966).
    """
    names = {name: number for number, name in enumerate(dict.fromkeys((*first, *second)))}
    one, other = (np.array([names[name] for name in side], np.intp) for side in (first, second))
    places = np.arange(len(other) + 1)
    row = places.copy()
    for index, name in enumerate(one.tolist(), start=1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (other != name))
        row = np.concatenate([[index], changed])
        # Insertions run along the row: each place is at most one more than the one before.
        row = np.minimum.accumulate(row - places) + places
    return int(row[-1])


def _errors(said: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> Floats:
    return np.array(
        [(distance(wanted, given), len(wanted)) for given, wanted in zip(said, true, strict=True)],
        dtype=np.float64,
    )


def _words(text: Truth) -> list[str]:
    return str(text).casefold().translate(_MARKS).split()
