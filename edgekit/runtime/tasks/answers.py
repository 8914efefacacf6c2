"""Question answering: the span of a context that answers a question.

Does what the question-answering pipeline of transformers 4.57 did; 5.x has none. Long contexts are
read in overlapping windows, each span is scored by the product of its start's and end's
probability (Chen et al., arXiv 1704.00051), and a span is widened to whole words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputMismatch
from edgekit.runtime.session import Array
from edgekit.runtime.tasks._base import (
    Answer,
    Context,
    Options,
    Row,
    check_keys,
    count_option,
    flag_option,
    kind_of,
    pick_outputs,
)
from edgekit.runtime.text import Encoding, Text

# Logits of what cannot be an answer: out of the softmax without making it 0/0.
_IMPOSSIBLE = np.float32(-10000.0)


class QuestionAnswering:
    """``{"score", "start", "end", "answer"}`` per question; a list of them with ``top_k`` > 1.

    ``start`` and ``end`` are character positions in the context. An input is
    ``{"question", "context"}`` or the pair ``(question, context)``.
    """

    per_token = True
    options = frozenset({"top_k", "max_answer_len", "handle_impossible_answer", "align_to_words"})

    def __init__(self, context: Context) -> None:
        post = context.post
        check_keys(
            post,
            "max_answer_length",
            "max_sequence_length",
            "doc_stride",
            "cls_token_id",
            "handle_impossible_answer",
            "top_k",
        )
        self.outputs = pick_outputs(context, "start_logits", "end_logits")
        self._top_k = count_option(post, "top_k", 1)
        self._longest = count_option(post, "max_answer_length", 15)
        self._impossible = flag_option(post, "handle_impossible_answer", False)
        self._cls = post.get("cls_token_id")
        self._question_first = context.processor.rules.padding_side == "right"

    def read(self, item: object) -> Text:
        """Question and context, in the order in which the model was trained to read them."""
        if isinstance(item, Mapping) and {"question", "context"} <= set(item):
            item = (item["question"], item["context"])
        if not isinstance(item, tuple) or len(item) != 2:
            raise InputMismatch(
                f"question-answering takes {{'question': …, 'context': …}} or a pair"
                f" (question, context), or a list of them, got {kind_of(item)}.",
                hint="Write a pair as a tuple: (question, context)."
                if isinstance(item, list)
                else "Give both texts.",
            )
        question, context = item
        for name, text in (("question", question), ("context", context)):
            if not isinstance(text, str) or not text:
                raise InputMismatch(f"The {name} is a text that is not empty, got {text!r}.")
        return (question, context) if self._question_first else (context, question)

    def alone(self, answer: object, item: object) -> object:
        """See `TextTask.alone`."""
        return answer

    def answer(self, text: Text, rows: Sequence[Row], options: Options) -> object:
        """See `TextTask.answer`."""
        top_k = count_option(options, "top_k", self._top_k)
        longest = count_option(options, "max_answer_len", self._longest)
        impossible = flag_option(options, "handle_impossible_answer", self._impossible)
        whole_words = flag_option(options, "align_to_words", True)
        context = text[1 if self._question_first else 0]
        # Spans that fall into the same words become one, so more than top_k are looked at.
        wanted = top_k * 2 + 10 if whole_words else top_k
        answers: dict[str, Answer] = {}
        scores: dict[str, float] = {}
        null = 1e6
        for row in rows:
            allowed = self._allowed(row.encoding)
            start = _probabilities(row.outputs[0], allowed)
            end = _probabilities(row.outputs[1], allowed)
            null = min(null, float(start[0] * end[0]))
            start[0] = end[0] = 0.0
            for first, last, score in _best_spans(start, end, allowed, wanted, longest):
                begin, stop = self._characters(row.encoding, first, last, whole_words)
                found = context[begin:stop]
                key = found.lower()
                if key in answers:
                    scores[key] += score
                else:
                    answers[key] = {"start": begin, "end": stop, "answer": found}
                    scores[key] = score
        results: list[Answer] = [{"score": scores[key], **answers[key]} for key in answers]
        if impossible:
            results.append({"score": null, "start": 0, "end": 0, "answer": ""})
        results.sort(key=lambda result: -float(str(result["score"])))
        results = results[:top_k] or [{"score": 0.0, "start": 0, "end": 0, "answer": ""}]
        return results[0] if len(results) == 1 else results

    def _allowed(self, encoding: Encoding) -> NDArray[np.bool_]:
        """Which tokens an answer may start or end at: the context's, and the null answer's."""
        if not self._question_first:
            return np.ones(len(encoding), dtype=np.bool_)
        allowed = np.array([part == 1 for part in encoding.sequence_ids], dtype=np.bool_)
        if self._cls is not None:
            allowed |= np.array(encoding.ids) == self._cls
        return allowed

    def _characters(
        self, encoding: Encoding, first: int, last: int, whole_words: bool
    ) -> tuple[int, int]:
        """The characters of the context from token `first` to token `last`."""
        offsets = encoding.offsets
        plain = offsets[first][0], offsets[last][1]
        if not whole_words:
            return plain
        part = 1 if self._question_first else 0
        words = encoding.token_to_word(first), encoding.token_to_word(last)
        if words[0] is None or words[1] is None:
            return plain
        left = encoding.word_to_chars(words[0], part)
        right = encoding.word_to_chars(words[1], part)
        return plain if left is None or right is None else (left[0], right[1])


def _probabilities(logits: Array, allowed: NDArray[np.bool_]) -> NDArray[np.float32]:
    values = np.where(allowed, np.asarray(logits, dtype=np.float32), _IMPOSSIBLE)
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


def _best_spans(
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    count: int,
    longest: int,
) -> list[tuple[int, int, float]]:
    """The `count` best (first token, last token, score), best first, less those not allowed."""
    # Row i, column j: an answer from i to j; neither backwards nor longer than `longest`.
    spans = np.tril(np.triu(np.outer(start, end)), longest - 1)
    flat = spans.ravel()
    if count < flat.size:
        top = np.argpartition(-flat, count)[:count]
        order = top[np.argsort(-flat[top])]
    else:
        order = np.argsort(-flat)
    firsts, lasts = np.unravel_index(order, spans.shape)
    return [
        (int(first), int(last), float(spans[first, last]))
        for first, last in zip(firsts, lasts, strict=True)
        if allowed[first] and allowed[last]
    ]
