"""Tokens back into text, piece by piece: no piece holds half a character, and all of them joined
are what the tokens decode to at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

# What stands for bytes that are no character, or not one yet.
_BROKEN = "\ufffd"
# Spaces that clean_up_tokenization_spaces takes out (transformers).
_SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
# The end of a word behind which nothing changes what is before it.
_WORD = re.compile(r"[^\W_]{2}(?= )")
# Tokens that are single bytes, of tokenizers that fall back on them.
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Tokenizer(Protocol):
    """What is used of a ``tokenizers.Tokenizer`` here."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of some tokens."""
        ...

    def id_to_token(self, id: int) -> str | None:
        """What a token is called in the vocabulary."""
        ...

    def get_added_tokens_decoder(self) -> Mapping[int, Special]:
        """The tokens beside the vocabulary."""
        ...


class Special(Protocol):
    """What is used of a ``tokenizers.AddedToken``."""

    special: bool


class Pieces:
    """The text of one answer as its tokens come; `text` is what has been told of it."""

    def __init__(self, tokenizer: Tokenizer, *, cleanup: bool = False) -> None:
        self._tokenizer = tokenizer
        self._cleanup = cleanup
        added = tokenizer.get_added_tokens_decoder()
        self._silent = {token for token, entry in added.items() if entry.special}
        self._ids: list[int] = []
        # The tokens before `read` are told; those from `start` on are decoded with the next, for a
        # token's text depends on whether one stands before it.
        self._start = 0
        self._read = 0
        self._raw = ""
        self._sure = ""
        self.text = ""

    def add(self, token: int) -> str:
        """The text that one more token makes certain, maybe none."""
        if token in self._silent:
            return ""
        self._ids.append(token)
        if _BYTE.fullmatch(self._tokenizer.id_to_token(token) or ""):
            # Tokenizers decode a run of them together, and one wrong byte breaks them all.
            return ""
        before = self._decode(self._ids[self._start : self._read])
        whole = self._decode(self._ids[self._start :])
        if len(whole) <= len(before) or whole.endswith(_BROKEN):
            return ""
        self._start, self._read = self._read, len(self._ids)
        self._raw += whole[len(before) :]
        return self._tell(self._certain())

    def end(self) -> str:
        """The rest of the text, when no more tokens come."""
        before = self._decode(self._ids[self._start : self._read])
        whole = self._decode(self._ids[self._start :])
        self._read = len(self._ids)
        self._raw += whole[len(before) :]
        return self._tell(self._raw)

    def _tell(self, raw: str) -> str:
        text = clean(raw) if self._cleanup else raw
        new = text[len(self.text) :]
        self.text = text
        return new

    def _certain(self) -> str:
        """What of the text no later token changes."""
        raw = self._raw
        if not self._cleanup:
            return raw
        # Behind two letters: what takes spaces out looks back over one ("n't") at most, and one
        # replacement may make the next.
        ends = [found.end() for found in _WORD.finditer(raw, len(self._sure))]
        self._sure = raw[: ends[-1]] if ends else self._sure
        return self._sure

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True) if ids else ""


def clean(text: str) -> str:
    """A text without the spaces before punctuation and English contractions."""
    for spaced in _SPACED:
        text = text.replace(spaced, spaced.strip())
    return text


class Stops:
    """Whether an answer has come to one of some texts, which may begin in its prompt.

    The text must end within the last token: that is what transformers looks for.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._texts = tuple(texts)
        # Every token has at least a byte; the first of a window may lose its space.
        self._window = max((len(text.encode()) for text in texts), default=0) + 2

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Whether the last token ends, or holds the end of, one of the texts."""
        if not self._texts:
            return False
        tail = list(tokens[-self._window :])
        text = self._tokenizer.decode(tail, skip_special_tokens=False)
        before = self._tokenizer.decode(tail[:-1], skip_special_tokens=False)
        # A character that the last token completes is the last token's.
        known = len(before.rstrip(_BROKEN))
        for stop in self._texts:
            found = text.rfind(stop)
            if found >= 0 and found + len(stop) > known:
                return True
        return False
