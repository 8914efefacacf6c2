"""From samples to the texts that models read, and from their outputs to what metrics compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.evaluation.masking import Masked, log_likelihood
from edgekit.evaluation.metrics import IGNORED, Prediction
from edgekit.evaluation.naming import reading
from edgekit.evaluation.sides import CandidateText, OutputRow, task_rows
from edgekit.runtime.tasks import TextTask
from edgekit.runtime.text import Text
from edgekit.sources.data import Samples
from edgekit.sources.data_roles import Inputs


@dataclass(frozen=True)
class Unit:
    """One text (or pair) of one sample; ``words`` are the character spans of its tokens."""

    sample: int
    text: Text
    words: tuple[tuple[int, int], ...] = ()


def read_units(samples: Samples, task: TextTask) -> list[Unit]:
    """The texts of all samples, in order; a sample of two texts to compare has two.

    Raises ConfigError for a sample that the task does not take.
    """
    reader = _READERS.get(samples.task)
    if reader is None:
        raise ConfigError(f"There is no evaluation for the task {samples.task}.")
    units: list[Unit] = []
    for index, row in enumerate(samples.inputs):
        with reading(samples, index):
            units.extend(reader(index, row, task))
    return units


def _one_text(index: int, row: Inputs, task: TextTask) -> list[Unit]:
    text, pair = row["text"], row.get("text_pair")
    return [Unit(index, task.read(text if pair is None else (text, pair)))]


def _two_texts(index: int, row: Inputs, task: TextTask) -> list[Unit]:
    texts = [row["text"], *([row["text_pair"]] if "text_pair" in row else [])]
    return [Unit(index, task.read(text)) for text in texts]


def _question(index: int, row: Inputs, task: TextTask) -> list[Unit]:
    return [Unit(index, task.read({"question": row["question"], "context": row["context"]}))]


def _words(index: int, row: Inputs, task: TextTask) -> list[Unit]:
    """The tokens put together with blanks: an app has a text, not somebody's tokens."""
    tokens = [str(token) for token in cast("tuple[str, ...]", row["tokens"])]
    spans: list[tuple[int, int]] = []
    start = 0
    for token in tokens:
        spans.append((start, start + len(token)))
        start += len(token) + 1
    return [Unit(index, task.read(" ".join(tokens)), tuple(spans))]


_READERS: Mapping[str, Callable[[int, Inputs, TextTask], list[Unit]]] = {
    "text-classification": _one_text,
    "token-classification": _words,
    "question-answering": _question,
    "feature-extraction": _two_texts,
    "fill-mask": _one_text,
}

# What `read_units` reads.
TASKS = frozenset(_READERS)


def gather(
    task: str, unit: Unit, rows: Sequence[OutputRow], candidate: CandidateText
) -> Prediction:
    """What a metric compares of the outputs for one text; a copy that keeps no batch alive."""
    encoding = rows[0].encoding
    if isinstance(encoding, Masked):
        return log_likelihood(encoding, rows[0].outputs[candidate.task.outputs[0]])
    return _GATHERERS[task](unit, rows, candidate)


def _logits(unit: Unit, rows: Sequence[OutputRow], candidate: CandidateText) -> Prediction:
    return np.array(rows[0].outputs[candidate.task.outputs[0]], dtype=np.float64)


def _vector(unit: Unit, rows: Sequence[OutputRow], candidate: CandidateText) -> Prediction:
    """The embedding; where the model gives hidden states only, their mean over the tokens."""
    found = np.array(rows[0].outputs[candidate.task.outputs[0]], dtype=np.float64)
    return found.mean(axis=0) if candidate.task.per_token else found


def _answer(unit: Unit, rows: Sequence[OutputRow], candidate: CandidateText) -> Prediction:
    found = candidate.task.answer(unit.text, task_rows(candidate.task, rows), {"top_k": 1})
    return str(found["answer"]) if isinstance(found, dict) else ""


def _tags(unit: Unit, rows: Sequence[OutputRow], candidate: CandidateText) -> Prediction:
    """The class of each word, which is that of its first token; IGNORED where it was cut off."""
    encoding = rows[0].encoding
    classes = rows[0].outputs[candidate.task.outputs[0]].argmax(axis=-1)
    tags = np.full(len(unit.words), IGNORED, dtype=np.int64)
    word = 0
    for position, (start, end) in enumerate(encoding.offsets):
        if encoding.special_tokens_mask[position] or start == end:
            continue
        # Byte-level tokenizers count the blank before a word to its first token.
        while word < len(unit.words) and unit.words[word][1] <= start:
            word += 1
        if word < len(unit.words) and end > unit.words[word][0] and tags[word] == IGNORED:
            tags[word] = classes[position]
    return tags


def _tokens(unit: Unit, rows: Sequence[OutputRow], candidate: CandidateText) -> Prediction:
    """The likeliest token at every mask; at every token of a text without a mask."""
    encoding = rows[0].encoding
    chosen = rows[0].outputs[candidate.task.outputs[0]].argmax(axis=-1)
    masks = [place for place, token in enumerate(encoding.ids) if token == candidate.mask_token_id]
    plain = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    return np.array(chosen[masks or plain], dtype=np.int64)


_GATHERERS: Mapping[str, Callable[[Unit, Sequence[OutputRow], CandidateText], Prediction]] = {
    "text-classification": _logits,
    "token-classification": _tags,
    "question-answering": _answer,
    "feature-extraction": _vector,
    "fill-mask": _tokens,
}
