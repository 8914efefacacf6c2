"""Real text in several scripts, encoded as sample inputs that hold padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of very different lengths, so that every batch of them is padded: an all-ones mask lets
# torch.export drop the mask from the graph.
SAMPLE_TEXTS = (
    "A small model answers on the device itself, and nothing leaves it.",
    "Быстрая лиса прыгает через ленивую собаку; 敏捷的狐狸跳过懒狗, über den faulen Hund hinweg.",
    "नमस्ते दुनिया!",
    "كم يستغرق تنزيل النموذج؟ ¿Y cuánta memoria necesita? 어제보다 빠릅니다. 😀",
)
SAMPLE_PAIRS = (
    "It runs offline.",
    "Which animal jumps over the dog? A fox does, says the sentence before this one, in Russian.",
    "Hello, world!",
    "The download takes a minute, and it needs less memory than yesterday's.",
)


def sample_batch(
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    *,
    task: str,
    max_length: int,
    rows: Sequence[int] = (0, 1, 2),
    length: int | None = None,
    filled: bool = True,
) -> dict[str, Tensor]:
    """The chosen rows of the samples as `[batch, sequence]` tensors for the task.

    Question answering gets pairs and fill-mask a mask in every row. Rows are padded to the longest
    of them, or truncated and padded to exactly `length` tokens: then the first row fills it when
    `filled`, and the last one is short (a single row is one or the other).
    """
    firsts = [SAMPLE_TEXTS[row] for row in rows]
    seconds = [SAMPLE_PAIRS[row] for row in rows] if task == "question-answering" else None
    if task == "fill-mask":
        firsts = [f"{tokenizer.mask_token} {text}" for text in firsts]
    if length is not None:
        target = seconds if seconds is not None else firsts
        if filled:
            target[0] = " ".join([target[0]] * (1 + length // 8))
        if len(firsts) > 1 or not filled:
            firsts[-1] = f"{tokenizer.mask_token}!" if task == "fill-mask" else "Hi!"
            if seconds is not None:
                seconds[-1] = "Hi!"
    return encode(
        tokenizer,
        names,
        firsts,
        seconds,
        max_length=min(length or max_length, max_length),
        fixed=length is not None,
    )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int,
    fixed: bool = False,
) -> dict[str, Tensor]:
    """transformers' own encoding of texts or pairs, as the tensors called `names`, in that order.

    Padded to the longest row, or to `max_length` when `fixed`; truncated to `max_length`.
    """
    encoded = tokenizer(
        list(texts),
        list(pairs) if pairs is not None else None,
        padding="max_length" if fixed else True,
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
    )
    return {name: torch.as_tensor(encoded[name]) for name in names}
