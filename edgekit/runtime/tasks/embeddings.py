"""Feature extraction: one embedding per text, or the hidden state of every token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.runtime.tasks._base import (
    Context,
    Options,
    Row,
    check_keys,
    pick_outputs,
    read_text,
)
from edgekit.runtime.text import Text


class Embedding:
    """One float32 array ``[hidden]`` per text: pooling and normalisation are in the graph."""

    per_token = False
    options: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        check_keys(context.post)
        self.outputs = pick_outputs(context, "sentence_embedding")

    def read(self, item: object) -> Text:
        """See `TextTask.read`."""
        return read_text(item, pairs=True, task="feature-extraction")

    def answer(self, text: Text, rows: Sequence[Row], options: Options) -> object:
        """The embedding, an array of its own that does not keep the batch alive."""
        return np.array(rows[0].outputs[0], dtype=np.float32)

    def alone(self, answer: object, item: object) -> object:
        """See `TextTask.alone`."""
        return answer


class HiddenStates(Embedding):
    """One float32 array ``[1, tokens, hidden]`` per text, indexed like transformers' lists."""

    per_token = True

    def __init__(self, context: Context) -> None:
        check_keys(context.post)
        self.outputs = pick_outputs(context, "last_hidden_state")

    def answer(self, text: Text, rows: Sequence[Row], options: Options) -> object:
        """The hidden states of every token, special ones included."""
        return np.array(rows[0].outputs[0][None], dtype=np.float32)
