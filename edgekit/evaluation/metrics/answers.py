"""Metrics of answers in words, as SQuAD scores them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from edgekit.evaluation.metrics.kinds import Prediction, Truth
from edgekit.evaluation.statistics import Floats


def exact(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """1 where an answer is one of those accepted."""
    return _answers(predictions, truths, lambda said, true: float(said == true))


def same(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """1 where two texts are the same, but for blanks around them."""
    pairs = zip(predictions, truths, strict=True)
    return np.array([[float(str(said).strip() == str(true).strip())] for said, true in pairs])


def overlap(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """The F1 over the words of an answer and the nearest of those accepted."""
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
