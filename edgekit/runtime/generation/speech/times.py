"""Marks of time: which may come next, where a window ends, and how they cut a text in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.runtime.generation.speech.rules import SpeechRules

Scores = NDArray[np.float32]


class Clock:
    """The rules by which Whisper marks time (A. Radford et al.: Robust Speech Recognition via
    Large-Scale Weak Supervision, 2022).
    """

    def __init__(self, rules: SpeechRules, eos: int) -> None:
        assert rules.without_times is not None
        self._without = rules.without_times
        self._first = rules.without_times + 1
        self._latest = rules.first_time
        self._eos = eos

    def mask(self, scores: Scores, said: Sequence[int]) -> None:
        """Take out of a row's scores, in place, what may not follow on the tokens of a window.

        Marks come in pairs, but for one before the end; they never go back; a window begins with
        one. Where all of them together are likelier than any token of text, one of them comes.
        """
        first = self._first
        scores[self._without] = -np.inf
        marked = bool(said) and said[-1] >= first
        before = len(said) < 2 or said[-2] >= first
        if marked and before:
            scores[first:] = -np.inf
        elif marked:
            scores[: self._eos] = -np.inf
        latest = next((token for token in reversed(said) if token >= first), None)
        if latest is not None:
            # The second of a pair may repeat the first, no other one may.
            scores[first : latest + (0 if marked and not before else 1)] = -np.inf
        if not said:
            scores[:first] = -np.inf
            if self._latest is not None:
                scores[first + self._latest + 1 :] = -np.inf
        highest = scores[first:].max()
        if highest == -np.inf:
            return
        together = highest + np.log(np.exp(scores[first:] - highest).sum())
        if together > scores[:first].max():
            scores[:first] = -np.inf


def settled(said: Sequence[int], rules: SpeechRules, frames: int) -> tuple[list[int], int]:
    """What of a window's tokens stands, and how many frames further the next window begins.

    What comes behind the last pair of marks was cut in the middle, and is heard again.
    """
    first = rules.first_mark
    marks = [first is not None and token >= first for token in said]
    pairs = [place for place in range(1, len(said)) if marks[place - 1] and marks[place]]
    if not pairs or marks[-2:] == [False, True]:
        return list(said), frames
    assert first is not None
    end = pairs[-1]
    further = (said[end - 1] - first) * rules.stride
    # Never the same window again, whatever a model says.
    return list(said[: end + 1]), further if further > 0 else frames


@dataclass(frozen=True)
class Chunk:
    """Some text and when it was said, in seconds; None where the model did not say."""

    text: str
    start: float | None
    end: float | None


class Cutting:
    """The tokens of a sound's windows cut into chunks between marks of time, as they come.

    A mark that is earlier than the one before belongs to the next window, which begins where the
    one before was left: at its end, or at the last mark but one where it ended with a pair.
    """

    def __init__(self, rules: SpeechRules, spell: Callable[[Sequence[int]], str]) -> None:
        self._rules = rules
        self._spell = spell
        self._whole = rules.precision * (rules.window // rules.stride)
        self._some: list[int] = []
        self._start: float | None = None
        self._gone = self._highest = self._lately = 0.0
        # The two tokens before, as far as there were any.
        self._before: tuple[int, ...] = ()

    def add(self, tokens: Sequence[int]) -> list[Chunk]:
        """The chunks that end with one of some more tokens; no later one changes them."""
        first = self._rules.first_mark
        chunks: list[Chunk] = []
        for token in tokens:
            before, self._before = self._before, (*self._before[-1:], token)
            if token in self._rules.special:
                continue
            if first is None or token < first:
                self._some.append(token)
                continue
            here = (token - first) * self._rules.precision
            if here < self._highest:
                if len(before) == 2 and min(before) < first:
                    self._gone += self._whole
                else:
                    self._highest = self._lately
                    self._gone += self._lately
            self._lately, self._highest = self._highest, here
            time = round(here + self._gone, 2)
            if self._start is None:
                self._start = time
            elif time != self._start:
                chunks.append(Chunk(self._spell(self._some), self._start, time))
                self._some, self._start = [], None
        return chunks

    def rest(self) -> list[Chunk]:
        """What no mark has ended: one chunk, or none."""
        if not self._some:
            return []
        return [Chunk(self._spell(self._some), self._start, None)]


def chunks_of(
    tokens: Sequence[int], rules: SpeechRules, spell: Callable[[Sequence[int]], str]
) -> list[Chunk]:
    """The tokens of all windows of a sound as chunks; see `Cutting`."""
    cutting = Cutting(rules, spell)
    return [*cutting.add(tokens), *cutting.rest()]
