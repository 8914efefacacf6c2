"""What is done to a decoder's scores before a token is picked, in transformers' order.

A row is one answer on its way: its scores are float32 ``[vocabulary]`` and are changed in place. A
row never sees the padding beside it, so that a batch is answered as its rows are one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt
from edgekit.runtime.generation.options import Options
from edgekit.runtime.generation.rules import GenerationRules

Scores: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
#: Changes the scores of the token that follows some tokens.
Rule: TypeAlias = Callable[[Sequence[int], Scores], None]

_NEVER = np.float32(-np.inf)


@dataclass(frozen=True)
class Place:
    """Where an answer stands: the decoder's tokens before it, and the most with it."""

    prompt: int
    most: int


def make_rules(
    options: Options, rules: GenerationRules, place: Place, source: Sequence[int] = ()
) -> tuple[Rule, ...]:
    """The rules of one row, in their order; ``source`` are the tokens that an encoder read."""
    made: list[Rule] = []
    eos = np.array(rules.eos, dtype=np.int64)
    if options.repetition_penalty != 1.0:
        made.append(Repetition(options.repetition_penalty))
    if options.no_repeat_ngram_size:
        made.append(NoRepeat(options.no_repeat_ngram_size))
    if options.encoder_no_repeat_ngram_size and source:
        made.append(NoRepeatOf(options.encoder_no_repeat_ngram_size, source))
    if rules.bad_words:
        made.append(BadWords(rules.bad_words, rules.eos))
    if options.min_length and len(eos):
        made.append(Until(options.min_length, eos))
    if options.min_new_tokens and len(eos):
        made.append(Until(place.prompt + options.min_new_tokens, eos))
    if rules.forced_bos is not None:
        made.append(Forced(1, rules.forced_bos))
    if rules.forced_eos is not None:
        made.append(Forced(place.most - 1, rules.forced_eos))
    if rules.suppress:
        made.append(Suppressed(np.array(rules.suppress, dtype=np.int64)))
    if rules.begin_suppress:
        first = place.prompt + (place.prompt == 1 and rules.forced_bos is not None)
        made.append(Suppressed(np.array(rules.begin_suppress, dtype=np.int64), at=first))
    return tuple(made)


class Repetition:
    """A token that has been there is less likely (Keskar et al. 2019, arXiv 1909.05858)."""

    def __init__(self, penalty: float) -> None:
        self._penalty = np.float32(penalty)

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        seen = np.unique(np.asarray(tokens, dtype=np.int64))
        found = scores[seen]
        scores[seen] = np.where(found < 0, found * self._penalty, found / self._penalty)


class NoRepeat:
    """No run of so many tokens twice."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        scores[_followers(tokens, tokens, self._size)] = _NEVER


class NoRepeatOf:
    """No run of so many tokens that the encoder has read."""

    def __init__(self, size: int, source: Sequence[int]) -> None:
        self._size = size
        self._source = tuple(source)

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        scores[_followers(self._source, tokens, self._size)] = _NEVER


def _followers(text: Sequence[int], tokens: Sequence[int], size: int) -> list[int]:
    """What follows the last ``size - 1`` tokens wherever they stand in a text."""
    if len(tokens) + 1 < size or len(text) < size:
        return []
    last = tuple(tokens[len(tokens) - size + 1 :])
    return [
        text[start + size - 1]
        for start in range(len(text) - size + 1)
        if tuple(text[start : start + size - 1]) == last
    ]


class BadWords:
    """None of some sequences of tokens."""

    def __init__(self, words: Sequence[Sequence[int]], eos: Sequence[int]) -> None:
        # Transformers lets the end be the end also where it is listed here.
        kept = [tuple(word) for word in words if not (len(word) == 1 and word[0] in eos)]
        self._single = np.array([word[0] for word in kept if len(word) == 1], dtype=np.int64)
        self._longer = [word for word in kept if len(word) > 1]

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        scores[self._single] = _NEVER
        for word in self._longer:
            before = len(word) - 1
            if tuple(tokens[-before:]) == word[:-1]:
                scores[word[-1]] = _NEVER


class Until:
    """Some tokens not before there are so many."""

    def __init__(self, count: int, ids: Ints) -> None:
        self._count = count
        self._ids = ids

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        if len(tokens) < self._count:
            scores[self._ids] = _NEVER


class Forced:
    """One token and no other where there are so many."""

    def __init__(self, count: int, token: int) -> None:
        self._count = count
        self._token = token

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        if len(tokens) == self._count:
            scores[:] = _NEVER
            scores[self._token] = 0.0


class Suppressed:
    """Some tokens never, or not where there are so many."""

    def __init__(self, ids: Ints, *, at: int | None = None) -> None:
        self._ids = ids
        self._at = at

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        if self._at is None or len(tokens) == self._at:
            scores[self._ids] = _NEVER


def apply(rules: Sequence[Rule], tokens: Sequence[int], scores: Scores) -> None:
    """All rules, in place. Raises BundleCorrupt for a token beyond the vocabulary."""
    try:
        for rule in rules:
            rule(tokens, scores)
    except IndexError as error:
        raise BundleCorrupt(
            f"The manifest's generation names a token beyond the {len(scores):,} that the decoder"
            " scores.",
            hint="Export the bundle again.",
        ) from error


def draw(scores: Scores, options: Options, random: np.random.Generator) -> int:
    """A token drawn by its scores, among those that temperature, top_k, top_p and min_p leave."""
    ids, chances = candidates(scores, options)
    sums = np.cumsum(chances)
    return int(ids[min(np.searchsorted(sums, random.random() * sums[-1], "right"), len(ids) - 1)])


def candidates(scores: Scores, options: Options) -> tuple[Ints, NDArray[np.float64]]:
    """(ids, chances) of the tokens that may be drawn."""
    found = scores / np.float32(options.temperature) if options.temperature != 1.0 else scores
    ids = np.flatnonzero(found > _NEVER)
    if 0 < options.top_k < len(ids):
        least = np.partition(found, -options.top_k)[-options.top_k]
        ids = np.flatnonzero(found >= least)
    found = found[ids]
    if options.top_p < 1.0:
        order = np.argsort(found, kind="stable")
        # As transformers does: what the unlikeliest tokens amount to, from below.
        sums = np.cumsum(_chances(found[order]))
        kept = order[sums > 1.0 - options.top_p]
        kept = kept if len(kept) else order[-1:]
        kept.sort()
        ids, found = ids[kept], found[kept]
    chances = _chances(found)
    if options.min_p > 0.0:
        likely = chances >= options.min_p * chances.max()
        ids, chances = ids[likely], chances[likely]
        chances = chances / chances.sum()
    return ids, chances


def _chances(scores: Scores) -> NDArray[np.float64]:
    powers = np.exp(scores.astype(np.float64) - scores.max())
    made: NDArray[np.float64] = powers / powers.sum()
    return made


def log_chances(scores: Scores) -> Scores:
    """Logarithms of the chances along the last axis."""
    found = scores - scores.max(axis=-1, keepdims=True)
    made: Scores = found - np.log(np.exp(found).sum(axis=-1, keepdims=True))
    return made
