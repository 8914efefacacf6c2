"""Token classification: entities per token, or tokens put together to words and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt, ConfigError
from edgekit.runtime.tasks._base import (
    Answer,
    Context,
    Options,
    Row,
    check_keys,
    choice_option,
    label,
    labels_of,
    pick_outputs,
    read_text,
    softmax,
)
from edgekit.runtime.text import Text

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A token, or a word of several: where it stands, its scores ``[labels]``, its verdict."""

    word: str
    scores: NDArray[np.float32]
    best: int
    score: float
    start: int
    end: int
    index: int
    continues: bool


class TokenClassification:
    """``[{"entity", "score", "index", "word", "start", "end"}]`` per text, labels ``O`` left out.

    ``start`` and ``end`` are character positions in the text. With ``aggregation_strategy``
    simple, first, average or max, ``[{"entity_group", "score", "word", "start", "end"}]``:
    neighbours of one label together, B- opening a new group; the last three decide per word
    before, by its first token, by the mean of its scores, or by its surest token.
    """

    per_token = True
    options = frozenset({"aggregation_strategy", "ignore_labels"})

    def __init__(self, context: Context) -> None:
        post = context.post
        check_keys(post, "aggregation", "ignore_labels", "unk_token_id")
        self.outputs = pick_outputs(context, "logits")
        self._labels = labels_of(context, self.outputs[0])
        self._strategy = choice_option(post, "aggregation", STRATEGIES, "none")
        ignored = post.get("ignore_labels", ["O"])
        if not isinstance(ignored, list | tuple):
            raise BundleCorrupt(f"processor.post.ignore_labels is a list, got {ignored!r}.")
        self._ignored = frozenset(map(str, ignored))
        self._unknown = post.get("unk_token_id")
        self._processor = context.processor
        self._marked = context.processor.marks_subwords

    def read(self, item: object) -> Text:
        """See `TextTask.read`."""
        return read_text(item, pairs=False, task="token-classification")

    def alone(self, answer: object, item: object) -> object:
        """See `TextTask.alone`."""
        return answer

    def answer(self, text: Text, rows: Sequence[Row], options: Options) -> object:
        """See `TextTask.answer`."""
        strategy = choice_option(options, "aggregation_strategy", STRATEGIES, self._strategy)
        ignored = self._ignored
        if options.get("ignore_labels") is not None:
            given = options["ignore_labels"]
            if isinstance(given, str) or not isinstance(given, Sequence):
                raise ConfigError(f"ignore_labels is a list of labels, got {given!r}.")
            ignored = frozenset(map(str, given))
        pieces = self._pieces(str(text), rows[0])
        if strategy == "none":
            return [
                {
                    "entity": self._label(piece),
                    "score": piece.score,
                    "index": piece.index,
                    "word": piece.word,
                    "start": piece.start,
                    "end": piece.end,
                }
                for piece in pieces
                if self._label(piece) not in ignored
            ]
        if strategy != "simple":
            pieces = [self._word(word, strategy) for word in _words(pieces)]
        groups = [self._group(group) for group in self._neighbours(pieces)]
        return [group for group in groups if group["entity_group"] not in ignored]

    def _label(self, piece: _Piece) -> str:
        return label(self._labels, piece.best)

    def _pieces(self, text: str, row: Row) -> list[_Piece]:
        """The tokens of the text without special ones, in order."""
        scores = softmax(row.outputs[0])
        best = scores.argmax(axis=-1)
        encoding = row.encoding
        name = self._processor.tokenizer.id_to_token
        pieces = []
        everything = zip(encoding.ids, encoding.special_tokens_mask, encoding.offsets, strict=True)
        for index, (token, special, (start, end)) in enumerate(everything):
            if special:
                continue
            word = str(name(token))
            surface = text[start:end]
            if token == self._unknown:
                word, continues = surface, False
            elif self._marked:
                # "##ing" is longer than the "ing" that it stands for.
                continues = len(word) != len(surface)
            else:
                continues = start > 0 and " " not in text[start - 1 : start + 1]
            top = int(best[index])
            pieces.append(
                _Piece(
                    word,
                    scores[index],
                    top,
                    float(scores[index, top]),
                    start,
                    end,
                    index,
                    continues,
                )
            )
        return pieces

    def _word(self, pieces: list[_Piece], strategy: str) -> _Piece:
        """One piece for the tokens of a word."""
        if strategy == "first":
            scores = pieces[0].scores
        elif strategy == "max":
            scores = max(pieces, key=lambda piece: piece.score).scores
        else:
            scores = np.mean([piece.scores for piece in pieces], axis=0)
        best = int(scores.argmax())
        return _Piece(
            self._processor.join([piece.word for piece in pieces]),
            scores,
            best,
            float(scores[best]),
            pieces[0].start,
            pieces[-1].end,
            pieces[0].index,
            False,
        )

    def _neighbours(self, pieces: list[_Piece]) -> list[list[_Piece]]:
        groups: list[list[_Piece]] = []
        last = None
        for piece in pieces:
            name = self._label(piece)
            # A label without B- or I- continues its like.
            opens = name.startswith("B-")
            kind = name[2:] if name.startswith(("B-", "I-")) else name
            if last == kind and not opens:
                groups[-1].append(piece)
            else:
                groups.append([piece])
            last = kind
        return groups

    def _group(self, pieces: list[_Piece]) -> Answer:
        return {
            "entity_group": self._label(pieces[0]).split("-", 1)[-1],
            "score": float(np.mean([piece.score for piece in pieces])),
            "word": self._processor.join([piece.word for piece in pieces]),
            "start": pieces[0].start,
            "end": pieces[-1].end,
        }


def _words(pieces: list[_Piece]) -> list[list[_Piece]]:
    words: list[list[_Piece]] = []
    for piece in pieces:
        if words and piece.continues:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words
