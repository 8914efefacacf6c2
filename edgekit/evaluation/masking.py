"""Hides one word of a text, so that a fill-mask model can be asked for it."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.runtime.session import Array
from edgekit.runtime.text import Encoding, Text


class Masked:
    """An encoding whose token at ``place`` is the mask; ``hidden`` is what stood there."""

    def __init__(self, whole: Encoding, place: int, mask: int) -> None:
        self.place = place
        self.hidden = whole.ids[place]
        self.ids = [*whole.ids[:place], mask, *whole.ids[place + 1 :]]
        self.type_ids = whole.type_ids
        self.offsets = whole.offsets
        self.word_ids = whole.word_ids
        self.sequence_ids = whole.sequence_ids
        self.special_tokens_mask = whole.special_tokens_mask
        self.overflowing = whole.overflowing
        self._whole = whole

    def token_to_word(self, token_index: int) -> int | None:
        """See `Encoding`."""
        return self._whole.token_to_word(token_index)

    def word_to_chars(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        """See `Encoding`."""
        return self._whole.word_to_chars(word_index, sequence_index)

    def __len__(self) -> int:
        return len(self.ids)


def hide_word(text: Text, encoding: Encoding, mask: int) -> Masked:
    """The encoding with one word masked, which follows from the text: both models miss the same.

    Words of one token come first: half a word is easily told from its other half.
    Raises ConfigError for a text that holds a mask already, or no word.
    """
    if mask in encoding.ids:
        raise ConfigError(
            "The text holds a mask, and what stood there is not known.",
            hint="Give whole texts for perplexity, or leave --metric out.",
        )
    special = encoding.special_tokens_mask
    plain = [place for place in range(len(encoding)) if not special[place]]
    if not plain:
        raise ConfigError("The text has no words.", hint="Leave empty texts out.")
    words = encoding.word_ids
    pieces = Counter(words)
    whole = [place for place in plain if pieces[words[place]] == 1] or plain
    digest = hashlib.sha256(repr(text).encode("utf-8", "backslashreplace")).digest()
    return Masked(encoding, whole[int.from_bytes(digest[:8], "big") % len(whole)], mask)


def log_likelihood(encoding: Masked, logits: Array) -> float:
    """The logarithm of the hidden word's probability, from the logits `[tokens, words]`."""
    scores = np.asarray(logits[encoding.place], dtype=np.float64)
    highest = scores.max()
    return float(scores[encoding.hidden] - highest - np.log(np.exp(scores - highest).sum()))
