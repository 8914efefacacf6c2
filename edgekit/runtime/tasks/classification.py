"""Text classification: the best label, or the best few, of a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.runtime.session import Array
from edgekit.runtime.tasks._base import (
    Context,
    Options,
    Reads,
    Row,
    check_keys,
    choice_option,
    count_option,
    label,
    labels_of,
    pick_outputs,
    read_text,
    softmax,
)
from edgekit.runtime.text import Text


class Classification:
    """``[{"label", "score"}]`` for one text, ``{"label", "score"}`` per text of a list.

    ``activation`` makes scores of logits: softmax (one label of several), sigmoid (several labels,
    or one), none (regression: the score is the value). With ``top_k``, a list per text, best first;
    ``top_k=None`` gives all.
    """

    per_token = False
    options = frozenset({"top_k", "function_to_apply"})

    def __init__(self, context: Context) -> None:
        check_keys(context.post, "activation", "top_k")
        self.outputs = pick_outputs(context, "logits")
        self._labels = labels_of(context, self.outputs[0])
        self._activation = choice_option(context.post, "activation", list(ACTIVATIONS), "softmax")
        # A bundle may ask for more than transformers' default of the best one.
        self._defaults = (
            {} if context.post.get("top_k", 1) == 1 else {"top_k": context.post["top_k"]}
        )

    def read(self, item: object) -> Text:
        """See `TextTask.read`."""
        return read_text(item, pairs=True, task="text-classification")

    def answer(self, text: Text, rows: Sequence[Row], options: Options) -> object:
        """See `TextTask.answer`."""
        logits = rows[0].outputs[0]
        if not options and not self._defaults:
            scores = ACTIVATIONS[self._activation](logits)
            best = int(scores.argmax())
            return {"label": label(self._labels, best), "score": float(scores[best])}
        chosen = {**self._defaults, **options}
        name = choice_option(chosen, "function_to_apply", list(ACTIVATIONS), self._activation)
        scores = ACTIVATIONS[name](logits)
        if "top_k" not in chosen:
            best = int(scores.argmax())
            return {"label": label(self._labels, best), "score": float(scores[best])}
        limit = len(scores) if chosen["top_k"] is None else count_option(chosen, "top_k", 1)
        order = np.argsort(-scores, kind="stable")[:limit]
        return [
            {"label": label(self._labels, int(index)), "score": float(scores[index])}
            for index in order
        ]

    def alone(self, answer: object, item: object) -> object:
        """A list around the one answer, but for the dict form, which transformers leaves bare."""
        return [answer] if isinstance(answer, dict) and not isinstance(item, Mapping) else answer


class Ranking:
    """``[{"label", "score"}]`` of logits, the best ``top_k`` (5) first; ``top_k=None`` gives all.

    What pictures and sounds are classified with; texts are answered with the best alone.
    """

    options = frozenset({"top_k", "function_to_apply"})

    def __init__(self, context: Reads, output: str) -> None:
        self._labels = labels_of(context, output)
        self._activation = choice_option(context.post, "activation", list(ACTIVATIONS), "softmax")
        self._top_k = count_option(context.post, "top_k", 5)

    def answer(self, logits: Array, options: Options) -> list[dict[str, object]]:
        """The best classes. Raises ConfigError for options with a wrong value."""
        name = choice_option(options, "function_to_apply", list(ACTIVATIONS), self._activation)
        scores = ACTIVATIONS[name](logits)
        every = "top_k" in options and options["top_k"] is None
        limit = len(scores) if every else count_option(options, "top_k", self._top_k)
        order = np.argsort(-scores, kind="stable")[:limit]
        return [
            {"label": label(self._labels, int(index)), "score": float(scores[index])}
            for index in order
        ]


def _sigmoid(logits: Array) -> NDArray[np.float32]:
    values = np.asarray(logits, dtype=np.float32)
    # Of -|x|: exp of a large number would overflow.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def _identity(logits: Array) -> NDArray[np.float32]:
    return np.asarray(logits, dtype=np.float32)


ACTIVATIONS = {"softmax": softmax, "sigmoid": _sigmoid, "none": _identity}
