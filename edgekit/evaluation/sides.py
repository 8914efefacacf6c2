"""The two sides of a comparison: the bundle through the runtime, the reference through PyTorch.

Each side tokenizes by itself (the bundle with the processor that ships, the reference with
transformers) and runs by itself; what comes out is the same kind of row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.evaluation.reference import Reference
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.tasks import Context, Row, TextTask, make_text_task
from edgekit.runtime.text import Encoding, Text, TextProcessor

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


@dataclass(frozen=True)
class OutputRow:
    """What a model says to one encoding; outputs per token have the encoding's length."""

    encoding: Encoding
    outputs: Mapping[str, Array]


class Side(Protocol):
    """One model that reads texts."""

    def tokenize(self, texts: Sequence[Text]) -> list[list[Encoding]]:
        """The rows of every text: one, or its windows. Raises InputMismatch."""
        ...

    def run(self, encodings: Sequence[Encoding]) -> list[OutputRow]:
        """The outputs of one batch, row by row, without padding."""
        ...


class CandidateText:
    """The bundle: its own processor, then `Model.run`."""

    def __init__(self, model: Model) -> None:
        manifest = model.manifest
        component = manifest.components["model"]
        shape = component.inputs[0].shape
        self._model = model
        self._batch = shape[0] if isinstance(shape[0], int) else None
        length = shape[1] if isinstance(shape[1], int) else None
        self.processor = TextProcessor(manifest.processor or {}, model.bundle.path, length=length)
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in component.inputs}
        self._per_token = per_token(component.inputs, component.outputs)
        found = (manifest.processor or {}).get("post")
        post: Mapping[str, object] = found if isinstance(found, Mapping) else {}
        self.mask_token_id = post.get("mask_token_id")
        self.task: TextTask = make_text_task(
            Context(
                post,
                manifest.labels,
                component.outputs,
                self.processor,
            )
        )

    def tokenize(self, texts: Sequence[Text]) -> list[list[Encoding]]:
        """See `Side`."""
        return [self.processor.tokenize(text) for text in texts]

    def feeds(self, encodings: Sequence[Encoding], size: int | None = None) -> dict[str, Array]:
        """The graph's inputs for one batch, padded to the longest; filled up to `size` rows.

        A graph of a fixed batch takes exactly as many as it has.
        """
        missing = (size or self._batch or len(encodings)) - len(encodings)
        made = self.processor.collate([*encodings, *[encodings[-1]] * missing])
        return {name: made[name].astype(kind, copy=False) for name, kind in self._dtypes.items()}

    def run(self, encodings: Sequence[Encoding]) -> list[OutputRow]:
        """See `Side`."""
        size = self._batch or len(encodings)
        rows: list[OutputRow] = []
        for start in range(0, len(encodings), size):
            part = list(encodings[start : start + size])
            feeds = self.feeds(part, size)
            outputs = self._model.run(feeds)
            width = next(iter(feeds.values())).shape[1]
            spans = [self.processor.span(len(one), width) for one in part]
            rows.extend(split_rows(part, outputs, spans, self._per_token))
        return rows


class ReferenceText:
    """The origin: transformers' tokenizer with the same lengths, then the module."""

    def __init__(self, source: LoadedSource, candidate: CandidateText, per_token: frozenset[str]):
        self._source = source
        self._reference = Reference(source)
        self._candidate = candidate
        self._per_token = per_token
        self._options = _truncation(source, candidate.processor)
        tokenizer = source.tokenizer
        #: Whether transformers tokenizes; tokenizers in pure Python tell no offsets.
        self.independent = bool(tokenizer is not None and tokenizer.is_fast)

    def tokenize(self, texts: Sequence[Text]) -> list[list[Encoding]]:
        """See `Side`."""
        if not self.independent:
            return self._candidate.tokenize(texts)
        # Its stubs know neither pairs nor windows.
        tokenizer = cast("Callable[..., _Batch]", self._source.tokenizer)
        made: list[list[Encoding]] = [[] for _ in texts]
        for paired in (False, True):
            places = [at for at, text in enumerate(texts) if isinstance(text, tuple) is paired]
            if not places:
                continue
            parts = [(text,) if isinstance(text, str) else text for text in texts]
            columns = zip(*(parts[place] for place in places), strict=True)
            batch = tokenizer(*(list(column) for column in columns), **self._options)
            # Windows say which text they are of; without them a text is a row.
            owners = batch.get("overflow_to_sample_mapping", range(len(places)))
            for owner, encoding in zip(owners, batch.encodings, strict=True):
                made[places[owner]].append(encoding)
        return made

    def run(self, encodings: Sequence[Encoding]) -> list[OutputRow]:
        """See `Side`."""
        tokenizer = self._source.tokenizer
        sizes = [len(one) for one in encodings]
        width = max(sizes)
        left = getattr(tokenizer, "padding_side", "right") == "left"
        spans = [slice(width - size, width) if left else slice(0, size) for size in sizes]
        fills = {
            "input_ids": getattr(tokenizer, "pad_token_id", 0) or 0,
            "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0) or 0,
        }
        feeds: dict[str, Array] = {}
        for name in self._source.sample_inputs:
            array = np.full((len(encodings), width), fills.get(name, 0), dtype=np.int64)
            for index, (one, span) in enumerate(zip(encodings, spans, strict=True)):
                array[index, span] = _values(name, one)
            feeds[name] = array
        outputs = self._reference.run(feeds)
        return split_rows(list(encodings), outputs, spans, self._per_token)


class _Batch(Protocol):
    """What is used of a transformers.BatchEncoding."""

    @property
    def encodings(self) -> Sequence[Encoding]: ...

    def get(self, key: str, default: Sequence[int]) -> Sequence[int]: ...


def _truncation(source: LoadedSource, processor: TextProcessor) -> dict[str, object]:
    """transformers' arguments for the lengths that the original pipeline has."""
    rules = processor.rules
    if not rules.windows:
        return {"truncation": True, "max_length": source.max_length}
    # Questions are read in the windows of the pipeline, whose size is not the tokenizer's affair.
    limits = [limit for limit in (source.max_length, rules.max_length) if limit is not None]
    return {
        "truncation": rules.strategy,
        "max_length": min(limits, default=None),
        "stride": rules.stride,
        "return_overflowing_tokens": True,
    }


def _values(name: str, encoding: Encoding) -> Sequence[int] | int:
    if name == "input_ids":
        return encoding.ids
    if name == "attention_mask":
        return 1
    if name == "token_type_ids":
        return encoding.type_ids
    raise ConfigError(f"The reference takes {name!r}, which no tokenizer makes.")


def per_token(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> frozenset[str]:
    """The outputs whose second axis is the inputs' sequence."""
    sequence = inputs[0].shape[1]
    return frozenset(
        spec.name for spec in outputs if len(spec.shape) > 1 and spec.shape[1] == sequence
    )


def split_rows(
    encodings: Sequence[Encoding],
    outputs: Mapping[str, Array],
    spans: Sequence[slice],
    per_token: frozenset[str],
) -> list[OutputRow]:
    """The rows of a batch's outputs, with padding cut off where an output has it."""
    return [
        OutputRow(
            encoding,
            {
                name: array[index, span] if name in per_token else array[index]
                for name, array in outputs.items()
            },
        )
        for index, (encoding, span) in enumerate(zip(encodings, spans, strict=True))
    ]


def task_rows(task: TextTask, rows: Sequence[OutputRow]) -> list[Row]:
    """The rows as the runtime's post-processing takes them."""
    return [Row(row.encoding, tuple(row.outputs[name] for name in task.outputs)) for row in rows]
