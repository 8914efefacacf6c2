"""Texts as a decoder reads them: in windows of its context, whose last tokens are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.evaluation.statistics import Floats
from edgekit.runtime.session import Array
from edgekit.sources.data import Samples

# A longer window takes memory and time for a past that tells next to nothing more.
_LONGEST = 2048


@dataclass(frozen=True)
class Window:
    """Tokens of one sample that are read at once; those from `first` on are scored.

    The others have been scored in the window before, and are its end.
    """

    sample: int
    tokens: Sequence[int]
    first: int = 1

    @property
    def scored(self) -> int:
        """How many tokens of it count."""
        return len(self.tokens) - self.first


def windows_of(sample: int, tokens: Sequence[int], context: int | None) -> list[Window]:
    """The windows of a text, each half a window behind the one before; none of a single token.

    Nothing stands before a text's first token, which nobody scores.
    """
    size = max(2, min(context or _LONGEST, _LONGEST))
    found: list[Window] = []
    done = 1
    for start in range(0, len(tokens), max(1, size // 2)):
        if done >= len(tokens):
            break
        part = tokens[start : start + size]
        found.append(Window(sample, part, done - start))
        done = start + len(part)
    return found


def texts_of(samples: Samples) -> list[str]:
    """The texts of DATA for a decoder."""
    return [str(row["text"]) for row in samples.inputs]


def surprises(logits: Array, tokens: Sequence[int]) -> Floats:
    """The negative log-likelihood of each token under the logits ``[tokens, vocabulary]``."""
    scores = np.asarray(logits, dtype=np.float32)
    highest = scores.max(axis=-1, keepdims=True)
    total = np.exp(scores - highest).sum(axis=-1, dtype=np.float64)
    chosen = scores[np.arange(len(tokens)), np.asarray(tokens, dtype=np.int64)]
    return np.asarray(np.log(total) + highest[:, 0] - chosen, dtype=np.float64)
