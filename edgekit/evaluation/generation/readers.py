"""Who reads a batch of texts and scores every token: the bundle, and its original in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.reference import better_threads
from edgekit.runtime.generation.predicting import GenerationPredictor
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Bytes of logits that are there at a time: of a large vocabulary few places, of a small one many.
_BYTES = 64 << 20
_PLACES = range(16, 513)


class Reader(Protocol):
    """One model that reads texts."""

    def every(self, rows: Sequence[Sequence[int]], most: int) -> Iterator[tuple[slice, Array]]:
        """See `edgekit.runtime.generation.decoder.Run.every`."""
        ...


class BundleReader:
    """The bundle through its own decoder, cache and all."""

    def __init__(self, model: Model) -> None:
        predictor = model.predictor
        assert isinstance(predictor, GenerationPredictor)
        self.rules: GenerationRules = predictor.rules
        self.tokenizer = predictor.tokenizer
        self._decoder = predictor.decoder
        size = predictor.decoder.session.outputs[0].shape[-1]
        self._vocabulary = size if isinstance(size, int) else 1 << 16

    def places(self, rows: int) -> int:
        """How many places of so many rows are scored at a time."""
        most = _BYTES // (4 * self._vocabulary * rows)
        return min(max(most, _PLACES.start), _PLACES.stop - 1)

    def every(self, rows: Sequence[Sequence[int]], most: int) -> Iterator[tuple[slice, Array]]:
        """See `Reader`."""
        with closing(self._decoder.begin(rows, {}, self.rules.pad, self.rules.context)) as run:
            yield from run.every(most)


class OriginalReader:
    """The checkpoint in PyTorch, its texts with the padding that `generate` gives them."""

    def __init__(self, source: LoadedSource, pad: int) -> None:
        self._model = whole_model(source)
        self._source = source
        self._pad = pad
        self._settled = False

    def every(self, rows: Sequence[Sequence[int]], most: int) -> Iterator[tuple[slice, Array]]:
        """See `Reader`. Raises InputMismatch where the model refuses the tokens."""
        import torch

        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :] = torch.tensor(list(tokens))
            mask[row, width - len(tokens) :] = 1
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        asked = f"{len(rows)} rows of {width} tokens"
        with refusals(self._source, asked):
            self._settle(ids, mask, places)
        cache: Any = None
        for start in range(0, width, most):
            part = slice(start, min(start + most, width))
            with refusals(self._source, asked), torch.inference_mode():
                found = self._model(
                    input_ids=ids[:, part],
                    attention_mask=mask[:, : part.stop],
                    position_ids=places[:, part],
                    past_key_values=cache,
                    use_cache=True,
                )
            cache = found.past_key_values
            yield part, np.asarray(found.logits.float().numpy())

    def _settle(self, *tensors: Any) -> None:
        """Choose the threads by the first tokens of the first batch, once."""
        import torch

        if self._settled:
            return
        ids, mask, places = (tensor[:, -64:] for tensor in tensors)

        def call() -> object:
            with torch.inference_mode():
                return self._model(input_ids=ids, attention_mask=mask, position_ids=places)

        torch.set_num_threads(better_threads(call))
        self._settled = True


@contextmanager
def refusals(source: LoadedSource, asked: str) -> Iterator[None]:
    """Raise InputMismatch where PyTorch refuses what it is asked, a reference of other weights."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InputMismatch(
            f"The reference {source.id} does not read {asked}: {error}.",
            hint="Check that bundle and reference are the same model.",
        ) from error


def whole_model(source: LoadedSource) -> Any:
    """transformers' own model inside a source that generates. Raises ConfigError for any other."""
    if source.engine is not None or not source.generative:
        raise ConfigError(
            f"The reference {source.id} is no checkpoint that generates, so DATA cannot judge by"
            " it.",
            hint="Pass the checkpoint that the bundle was made from.",
        )
    return source.module.model
