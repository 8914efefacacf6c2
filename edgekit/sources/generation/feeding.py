"""Inputs at wanted sizes for the components of models that generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

# As far as a cache is computed for a comparison; a longer one repeats it.
_COMPUTED = 48


@dataclass(frozen=True)
class Sizes:
    """How large a batch is: rows, tokens, tokens of the past, tokens that an encoder has read.

    ``padded``: all rows but the last begin (an encoder's: end) with padding; a single row itself.
    ``kept``: the logits of so many of the last tokens are wanted, 0 is all of them.
    """

    batch: int
    sequence: int
    past: int = 0
    encoder: int = 0
    padded: bool = True
    kept: int = 0


class Feeder(Protocol):
    """Makes the inputs of one component.

    ``traced`` are the sizes of the batch to trace with (all of them different, none 0 or 1, with
    padding in every mask), ``compared`` those to compare, ``golden`` some for the golden batch,
    the largest first.
    """

    @property
    def traced(self) -> Sizes:
        """See above."""
        ...

    @property
    def compared(self) -> Mapping[str, Sizes]:
        """See above."""
        ...

    @property
    def golden(self) -> Sequence[Sizes]:
        """See above."""
        ...

    def __call__(self, sizes: Sizes, *, seed: int) -> Tensors:
        """A batch of these sizes, always the same for one seed."""
        ...


def random_ids(batch: int, length: int, vocabulary: int, *, seed: int) -> Tensor:
    """Token ids without the first few, which are special in most vocabularies."""
    generator = torch.Generator().manual_seed(seed)
    low = min(8, vocabulary - 1)
    return torch.randint(low, vocabulary, (batch, length), generator=generator)


def mask_of(batch: int, length: int, *, padded: bool, left: bool) -> Tensor:
    """A mask whose rows have more and more padding; the last row of several has none."""
    mask = torch.ones(batch, length, dtype=torch.int64)
    if not padded:
        return mask
    rows = range(batch) if batch == 1 else range(batch - 1)
    for row in rows:
        # Never all of a row: the last of its tokens stands.
        count = min(2 * row + 2, length - 1)
        mask[row, slice(0, count) if left else slice(length - count, None)] = 0
    return mask


def positions_of(mask: Tensor, sequence: int) -> Tensor:
    """The positions of the last `sequence` tokens, counted from each row's first real one."""
    counted = (mask.cumsum(-1) - 1).clamp(min=0)
    return counted[:, mask.shape[1] - sequence :]


def stretched(cache: Tensor, length: int) -> Tensor:
    """A cache of so many tokens: its own ones over and over."""
    have = cache.shape[2]
    if have == length:
        return cache
    index = torch.arange(length) % max(have, 1)
    return cache.index_select(2, index)


def computed_length(past: int) -> int:
    """How many tokens of a past are computed; the others repeat them."""
    return min(past, _COMPUTED)
