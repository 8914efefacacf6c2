"""Who reads a batch of texts and scores every token: the bundle, and its original in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np

from edgekit.core.errors import InputMismatch
from edgekit.evaluation.generation.original import Original
from edgekit.runtime.generation.predicting import GenerationPredictor
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array

# Bytes of logits that are there at a time: of a large vocabulary few places, of a small one many.
_BYTES = 64 << 20
_PLACES = range(16, 513)
# The tokens by which PyTorch's threads are chosen.
_TRIED = 64


class Reader(Protocol):
    """One model that reads texts."""

    def every(self, rows: Sequence[Sequence[int]], most: int) -> Iterator[tuple[slice, Array]]:
        """See `edgekit.runtime.generation.decoder.Run.every`."""
        ...


class BundleReader:
    """The bundle through its own decoder, cache and all; ``vocabulary`` is None where unknown."""

    def __init__(self, model: Model) -> None:
        predictor = model.predictor
        assert isinstance(predictor, GenerationPredictor)
        self.rules: GenerationRules = predictor.rules
        self.tokenizer = predictor.tokenizer
        self._decoder = predictor.decoder
        size = predictor.decoder.session.outputs[0].shape[-1]
        self.vocabulary = size if isinstance(size, int) else None

    def places(self, rows: int) -> int:
        """How many places of so many rows are scored at a time."""
        most = _BYTES // (4 * (self.vocabulary or 1 << 16) * rows)
        return min(max(most, _PLACES.start), _PLACES.stop - 1)

    def every(self, rows: Sequence[Sequence[int]], most: int) -> Iterator[tuple[slice, Array]]:
        """See `Reader`."""
        with closing(self._decoder.begin(rows, {}, self.rules.pad, self.rules.context)) as run:
            yield from run.every(most)


class OriginalReader:
    """The checkpoint in PyTorch, its texts with the padding that `generate` gives them."""

    def __init__(self, original: Original, candidate: BundleReader) -> None:
        self._original = original
        self._pad = candidate.rules.pad
        self._vocabulary = candidate.vocabulary

    def every(self, rows: Sequence[Sequence[int]], most: int) -> Iterator[tuple[slice, Array]]:
        """See `Reader`. Raises InputMismatch where the model refuses the tokens, or has others."""
        import torch

        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :] = torch.tensor(list(tokens))
            mask[row, width - len(tokens) :] = 1
        places = (mask.cumsum(-1) - 1).clamp(min=0)

        def trial(model: Any) -> object:
            some, seen, where = (tensor[:, -_TRIED:] for tensor in (ids, mask, places))
            return model(input_ids=some, attention_mask=seen, position_ids=where)

        cache: Any = None
        for start in range(0, width, most):
            part = slice(start, min(start + most, width))
            with self._original.asked(f"{len(rows)} rows of {width} tokens", trial) as model:
                found = model(
                    input_ids=ids[:, part],
                    attention_mask=mask[:, : part.stop],
                    position_ids=places[:, part],
                    past_key_values=cache,
                    use_cache=True,
                )
            cache = found.past_key_values
            size = found.logits.shape[-1]
            if self._vocabulary not in (None, size):
                raise InputMismatch(
                    f"The bundle scores a vocabulary of {self._vocabulary:,} tokens, the reference"
                    f" one of {size:,}.",
                    hint="Check that bundle and reference are the same model.",
                )
            yield part, np.asarray(found.logits.float().numpy())
