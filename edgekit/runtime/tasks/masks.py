"""Fill-mask: the likeliest tokens for each mask of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.core.errors import BundleCorrupt, InputMismatch
from edgekit.runtime.tasks._base import (
    Answer,
    Context,
    Options,
    Row,
    check_keys,
    count_option,
    flag_option,
    pick_outputs,
    read_text,
    softmax,
)
from edgekit.runtime.text import Text

# English spacing, as transformers' clean_up_tokenization_spaces mends it.
_SPACING = (" .", " ?", " !", " ,", " n't", " 'm", " 's", " 've", " 're")


class FillMask:
    """``[{"score", "token", "token_str", "sequence"}]`` per text: the best ``top_k`` (5).

    A text with several masks gives one such list per mask, in order.
    """

    per_token = True
    options = frozenset({"top_k"})

    def __init__(self, context: Context) -> None:
        post = context.post
        check_keys(post, "top_k", "mask_token_id", "pad_token_id", "clean_up_tokenization_spaces")
        mask = post.get("mask_token_id")
        if isinstance(mask, bool) or not isinstance(mask, int):
            raise BundleCorrupt(f"processor.post.mask_token_id is a number, got {mask!r}.")
        self._mask = mask
        self._pad = post.get("pad_token_id")
        self._top_k = count_option(post, "top_k", 5)
        self._mend = flag_option(post, "clean_up_tokenization_spaces", False)
        self._processor = context.processor
        self.outputs = pick_outputs(context, "logits")

    def read(self, item: object) -> Text:
        """See `TextTask.read`."""
        return read_text(item, pairs=True, task="fill-mask")

    def alone(self, answer: object, item: object) -> object:
        """See `TextTask.alone`."""
        return answer

    def answer(self, text: Text, rows: Sequence[Row], options: Options) -> object:
        """See `TextTask.answer`. Raises InputMismatch for a text without a mask."""
        count = count_option(options, "top_k", self._top_k)
        ids = rows[0].encoding.ids
        masks = [index for index, token in enumerate(ids) if token == self._mask]
        if not masks:
            name = self._processor.tokenizer.id_to_token(self._mask)
            raise InputMismatch(
                f"The text has no {name} among its first {len(ids)} tokens.",
                hint=f"Write {name} where a word is to be found.",
            )
        scores = softmax(rows[0].outputs[0][masks])
        found = [
            self._candidates(ids, at, row, count, alone=len(masks) == 1)
            for at, row in zip(masks, scores, strict=True)
        ]
        return found[0] if len(found) == 1 else found

    def _candidates(
        self, ids: list[int], at: int, scores: np.ndarray, count: int, *, alone: bool
    ) -> list[Answer]:
        count = min(count, scores.size)
        top = np.argpartition(-scores, count - 1)[:count]
        answers: list[Answer] = []
        for token in top[np.argsort(-scores[top], kind="stable")]:
            filled = [*ids[:at], int(token), *ids[at + 1 :]]
            shown = [one for one in filled if one != self._pad]
            answers.append(
                {
                    "score": float(scores[token]),
                    "token": int(token),
                    "token_str": self._decode([int(token)]),
                    # The other masks of a text stay visible.
                    "sequence": self._decode(shown, skip_special_tokens=alone),
                }
            )
        return answers

    def _decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        text = self._processor.decode(ids, skip_special_tokens=skip_special_tokens)
        return mend_spacing(text) if self._mend else text


def mend_spacing(text: str) -> str:
    """English text without the blanks that tokens leave before marks and endings."""
    for spaced in _SPACING[:4]:
        text = text.replace(spaced, spaced[1:])
    text = text.replace(" ' ", "'")
    for spaced in _SPACING[4:]:
        text = text.replace(spaced, spaced[1:])
    return text
