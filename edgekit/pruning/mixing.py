"""Texts that nobody wrote, for a model to learn its original's answers to.

A pruned model learns few texts by heart, and answers others no better. What is right is whatever
the original says, so that texts cost nothing but its answer: the beginning of one text and the end
of another, some with words missing. Data augmentation for distillation is of TinyBERT (Jiao et al.
2020, arXiv 1909.10351), which replaces words by a language model's instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgekit.pruning.feeding import Batch

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"
# Of the texts that are made, so many lack words, and so many of their words are missing.
_THINNED = 0.3
_MISSING = 0.15
# A text with what begins and ends it around a word.
_SHORTEST = 3


class Mixer:
    """Makes batches of texts out of those of others; `mixes` tells whether it can."""

    def __init__(self, source: LoadedSource, batches: Sequence[Batch]) -> None:
        self._batches = batches
        tokenizer = source.tokenizer
        self._pad = getattr(tokenizer, "pad_token_id", None) or 0
        end = getattr(tokenizer, "sep_token_id", None)
        # Two texts in a row would be cut at a place that belongs to neither.
        plain = all(_is_plain(batch, end) for batch in batches)
        self.mixes = tokenizer is not None and bool(batches) and plain

    def made(self, place: int, generator: torch.Generator) -> Batch:
        """As many texts as a batch has: how they begin, and how those near it in length end.

        Batches mostly come in the order of their lengths, so that those beside one are like it.
        """
        near = place + int(torch.randint(-1, 2, (), generator=generator))
        one = self._batches[place].inputs
        other = self._batches[min(max(near, 0), len(self._batches) - 1)].inputs
        partners = torch.randint(len(other[_IDS]), (len(one[_IDS]),), generator=generator)
        rows = [
            _joined(_words(one, row), _words(other, int(partner)), generator)
            for row, partner in enumerate(partners)
        ]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._pad)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1])[None, :] < lengths[:, None]
        found = {_IDS: ids, _MASK: mask.to(one[_MASK].dtype), _TYPES: torch.zeros_like(ids)}
        return Batch({name: found[name] for name in one})


def _is_plain(batch: Batch, end: int | None) -> bool:
    """Whether a batch has single texts, filled up on the right; `end` is what parts two of them."""
    inputs = batch.inputs
    if not {_IDS, _MASK} <= set(inputs) <= {_IDS, _MASK, _TYPES}:
        return False
    mask = inputs[_MASK]
    if end is not None and bool((((inputs[_IDS] == end) & mask.bool()).sum(1) > 1).any()):
        return False
    together = bool((mask[:, 1:] <= mask[:, :-1]).all())
    return together and (_TYPES not in inputs or not inputs[_TYPES].any())


def _words(inputs: dict[str, Tensor], row: int) -> Tensor:
    return inputs[_IDS][row, : int(inputs[_MASK][row].sum())]


def _joined(one: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """The beginning of one text and the end of another, cut at the same share of both."""
    if min(len(one), len(other)) < _SHORTEST:
        return one
    share, thin = torch.rand(2, generator=generator).tolist()
    ends = [min(max(1, round(share * len(words))), len(words) - 1) for words in (one, other)]
    joined = torch.cat([one[: ends[0]], other[ends[1] :]])
    if thin >= _THINNED:
        return joined
    kept = torch.rand(len(joined), generator=generator) >= _MISSING
    # What begins and ends a text is what a model looks at.
    kept[0] = kept[-1] = True
    return joined[kept]
