"""Runs both models on the same texts; the bundle may read them before its reference is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.answers import Unit, gather, read_units
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.masking import hide_word
from edgekit.evaluation.metrics import Prediction, cosine
from edgekit.evaluation.naming import reading
from edgekit.evaluation.numerics import add_outputs, larger
from edgekit.evaluation.pairs import BATCH, Pairs, comparable
from edgekit.evaluation.sides import CandidateText, OutputRow, ReferenceText, Side, per_token
from edgekit.runtime.batching import plan_batches
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.text import Encoding
from edgekit.runtime.worker import not_finite
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Logits over a vocabulary are large: 16 rows of 128 tokens by 30,000 words are 250 MB.
_BATCH_OF_VOCABULARY = 4
# Tokenized in one call, by all cores.
_TOKENIZED = 256


class CandidateTexts:
    """The bundle's side of a comparison: its texts in batches of like length.

    The longest come first: what does not fit in memory fails at once.

    Raises:
        ConfigError: a sample that the task does not take, or without room for a mask.
    """

    def __init__(
        self, model: Model, samples: Samples, *, hide_words: bool = False, batch_size: int = BATCH
    ) -> None:
        limit = min(batch_size, _BATCH_OF_VOCABULARY) if samples.task == "fill-mask" else batch_size
        self.side = CandidateText(model)
        self.units = read_units(samples, self.side.task)
        self._samples = samples
        self.hides_words = hide_words
        self.rows = self.hidden(_tokenized(self.side, self.units, samples))
        self.batches = plan_batches([max(len(row) for row in rows) for rows in self.rows], limit)

    def hidden(self, rows: list[list[Encoding]]) -> list[list[Encoding]]:
        """The rows of all texts, each with a word masked where that is asked for."""
        if not self.hides_words:
            return rows
        return _hidden(rows, self.units, self._samples, self.side.mask_token_id)

    def answers(self, number: int) -> list[list[OutputRow]]:
        """The rows of every text of a batch."""
        return _answers(self.side, [self.rows[index] for index in self.batches[number]])


def run_texts(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    problem: str | None = None,
    candidate: CandidateTexts | None = None,
    hide_words: bool = False,
    batch_size: int = BATCH,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both say to texts, each through its own tokenizer; ``notes`` gets what should be told.

    With `hide_words` a word of every text is masked, and the predictions are its log-likelihoods.
    A `candidate` has read the samples already.

    Raises:
        ConfigError: a sample that the task does not take.
        InputMismatch: a model does not take the samples.
    """
    ours = candidate or CandidateTexts(model, samples, hide_words=hide_words, batch_size=batch_size)
    side, units = ours.side, ours.units
    component = model.manifest.components["model"]
    reference = ReferenceText(source, side, per_token(component.inputs, component.outputs))
    if not reference.independent:
        notes.append("The reference's tokenizer tells no offsets: the bundle's own read the texts.")
    theirs = ours.hidden(_tokenized(reference, units, samples))
    pairs = Pairs([], [], [0.0] * len(samples), decode=side.processor.decode)
    before: dict[int, Prediction] = {}
    after: dict[int, Prediction] = {}
    differing = 0
    done = 0
    counted = Counted(progress, len(units))
    for number, indices in enumerate(ours.batches):
        expectations = _answers(reference, [theirs[index] for index in indices])
        for index, expected, found in zip(indices, expectations, ours.answers(number), strict=True):
            unit = units[index]
            same = [row.encoding.ids for row in expected] == [row.encoding.ids for row in found]
            differing += not same
            if any(not_finite(row.outputs) is not None for row in found):
                pairs.broken.add(unit.sample)
            answered = list(found)
            for place, (left, right) in enumerate(zip(expected, found, strict=False)):
                if left.encoding.ids == right.encoding.ids:
                    gap = add_outputs(
                        pairs.distances, model.task, left.outputs, right.outputs, problem=problem
                    )
                    pairs.gaps[unit.sample] = larger(pairs.gaps[unit.sample], gap)
                    alike = comparable(right.outputs, left.outputs)
                    answered[place] = replace(right, outputs=alike)
            before[index] = gather(samples.task, unit, expected, side)
            after[index] = gather(samples.task, unit, answered, side)
        done += len(indices)
        counted.tell(f"Evaluated {done:,} of {len(units):,} texts", done)
    if differing:
        notes.append(
            f"{differing} of {len(units)} texts have other tokens in the bundle than in"
            " transformers; their outputs are left out of the numerics."
        )
    if side.processor.truncated:
        notes.append(
            f"{side.processor.truncated} texts were longer than the"
            f" {side.processor.max_length} tokens the bundle takes and were truncated."
        )
    owners: dict[int, list[int]] = {}
    for index, unit in enumerate(units):
        owners.setdefault(unit.sample, []).append(index)
    labelled = samples.labels is not None
    for sample in range(len(samples)):
        mine = owners[sample]
        pairs.reference.append(_joined([before[index] for index in mine], labelled=labelled))
        pairs.candidate.append(_joined([after[index] for index in mine], labelled=labelled))
    return pairs


def _tokenized(side: Side, units: Sequence[Unit], samples: Samples) -> list[list[Encoding]]:
    made: list[list[Encoding]] = []
    for start in range(0, len(units), _TOKENIZED):
        part = units[start : start + _TOKENIZED]
        try:
            made.extend(side.tokenize([unit.text for unit in part]))
        except InputMismatch:
            # Once more, one by one: whose fault is it?
            for unit in part:
                with reading(samples, unit.sample):
                    side.tokenize([unit.text])
            raise
    return made


def _hidden(
    rows: Sequence[list[Encoding]], units: Sequence[Unit], samples: Samples, mask: object
) -> list[list[Encoding]]:
    if not isinstance(mask, int):
        raise ConfigError("The bundle does not say which token is its mask.")
    made: list[list[Encoding]] = []
    for unit, (first, *_) in zip(units, rows, strict=True):
        with reading(samples, unit.sample):
            made.append([hide_word(unit.text, first, mask)])
    return made


def _answers(side: Side, encodings: Sequence[list[Encoding]]) -> list[list[OutputRow]]:
    """The rows of every text, from one run of all of them."""
    flat = [row for rows in encodings for row in rows]
    made = iter(side.run(flat))
    return [[next(made) for _ in rows] for rows in encodings]


def _joined(parts: Sequence[Prediction], *, labelled: bool) -> Prediction:
    """The prediction of a sample from those of its texts: two embeddings become a similarity."""
    if len(parts) == 1:
        return parts[0]
    first, second = (np.asarray(part) for part in parts)
    return cosine(first, second) if labelled else np.concatenate([first, second])


def first_feeds(model: Model, samples: Samples, count: int) -> list[dict[str, Array]]:
    """The graph's inputs for each of the first `count` texts of the samples."""
    side = CandidateText(model)
    some = samples.take(range(min(count, len(samples))))
    units = read_units(some, side.task)[:count]
    return [side.feeds(encodings[:1]) for encodings in _tokenized(side, units, some)]
