"""Runs both models on the same samples and keeps what each said, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.evaluation.answers import Unit, gather, read_units
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.masking import hide_word
from edgekit.evaluation.metrics import Prediction, cosine
from edgekit.evaluation.numerics import Distance, add_outputs, larger, largest_gap
from edgekit.evaluation.reference import Reference
from edgekit.evaluation.sides import CandidateText, OutputRow, ReferenceText, Side, per_token
from edgekit.runtime.batching import batch_symbol, plan_batches
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.text import Encoding
from edgekit.runtime.worker import not_finite
from edgekit.sources.data import Samples
from edgekit.sources.data_pictures import reads_files

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

BATCH = 16
# Logits over a vocabulary are large: 16 rows of 128 tokens by 30,000 words are 250 MB.
_BATCH_OF_VOCABULARY = 4
# Tokenized in one call, by all cores.
_TOKENIZED = 256


@dataclass(frozen=True)
class Pairs:
    """Both models' predictions, sample by sample, and how far their outputs lie apart.

    ``gaps`` are the largest absolute difference of the outputs for each sample, ``broken`` the
    samples that the candidate answered with NaN or infinities. ``decode`` turns token ids into
    text, where the model has tokens. Predictions that are ``counted`` are rows of the metric
    already, and ``told`` says in words what each side of a sample came to.
    """

    reference: list[Prediction]
    candidate: list[Prediction]
    gaps: list[float]
    distances: dict[str, Distance] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    decode: Callable[[Sequence[int]], str] | None = None
    counted: bool = False
    told: list[tuple[str, str]] = field(default_factory=list)


def comparable(found: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs, those of another shape than the reference's as NaN in the reference's."""
    return {
        name: np.full(expected[name].shape, np.nan, dtype=np.float32)
        if name in expected and expected[name].shape != array.shape
        else array
        for name, array in found.items()
    }


def run_texts(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    problem: str | None = None,
    hide_words: bool = False,
    batch_size: int = BATCH,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both say to texts, each through its own tokenizer; ``notes`` gets what should be told.

    With `hide_words` a word of every text is masked, and the predictions are its log-likelihoods.

    Raises:
        ConfigError: a sample that the task does not take.
        InputMismatch: a model does not take the samples.
    """
    candidate = CandidateText(model)
    component = model.manifest.components["model"]
    reference = ReferenceText(source, candidate, per_token(component.inputs, component.outputs))
    if not reference.independent:
        notes.append("The reference's tokenizer tells no offsets: the bundle's own read the texts.")
    units = read_units(samples, candidate.task)
    limit = min(batch_size, _BATCH_OF_VOCABULARY) if samples.task == "fill-mask" else batch_size
    pairs = Pairs([], [], [0.0] * len(samples), decode=candidate.processor.decode)
    before: dict[int, Prediction] = {}
    after: dict[int, Prediction] = {}
    differing = 0
    counted = Counted(progress, len(units))
    for done, batch in _batches(units, candidate, reference, limit, hide_words=hide_words):
        theirs = _answers(reference, [item.theirs for item in batch])
        ours = _answers(candidate, [item.ours for item in batch])
        for item, expected, found in zip(batch, theirs, ours, strict=True):
            same = [row.encoding.ids for row in expected] == [row.encoding.ids for row in found]
            differing += not same
            if any(not_finite(row.outputs) is not None for row in found):
                pairs.broken.add(item.unit.sample)
            answered = list(found)
            for index, (left, right) in enumerate(zip(expected, found, strict=False)):
                if left.encoding.ids == right.encoding.ids:
                    gap = add_outputs(
                        pairs.distances, model.task, left.outputs, right.outputs, problem=problem
                    )
                    pairs.gaps[item.unit.sample] = larger(pairs.gaps[item.unit.sample], gap)
                    alike = comparable(right.outputs, left.outputs)
                    answered[index] = replace(right, outputs=alike)
            before[item.index] = gather(samples.task, item.unit, expected, candidate)
            after[item.index] = gather(samples.task, item.unit, answered, candidate)
        counted.tell(f"Evaluated {done:,} of {len(units):,} texts", done)
    if differing:
        notes.append(
            f"{differing} of {len(units)} texts have other tokens in the bundle than in"
            " transformers; their outputs are left out of the numerics."
        )
    if candidate.processor.truncated:
        notes.append(
            f"{candidate.processor.truncated} texts were longer than the"
            f" {candidate.processor.max_length} tokens the bundle takes and were truncated."
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


@dataclass(frozen=True)
class _Item:
    """One text with the tokens that each side made of it."""

    index: int
    unit: Unit
    ours: list[Encoding]
    theirs: list[Encoding]


def _batches(
    units: Sequence[Unit],
    candidate: CandidateText,
    reference: Side,
    limit: int,
    *,
    hide_words: bool,
) -> Iterator[tuple[int, list[_Item]]]:
    """Units of like length together, longest first: what does not fit in memory fails at once."""
    ours = _tokenized(candidate, units)
    theirs = _tokenized(reference, units)
    if hide_words:
        mask = candidate.mask_token_id
        ours, theirs = (_hidden(rows, units, mask) for rows in (ours, theirs))
    lengths = [max(len(row) for row in rows) for rows in ours]
    done = 0
    for indices in plan_batches(lengths, limit):
        done += len(indices)
        yield done, [_Item(index, units[index], ours[index], theirs[index]) for index in indices]


def _tokenized(side: Side, units: Sequence[Unit]) -> list[list[Encoding]]:
    made: list[list[Encoding]] = []
    for start in range(0, len(units), _TOKENIZED):
        part = units[start : start + _TOKENIZED]
        try:
            made.extend(side.tokenize([unit.text for unit in part]))
        except InputMismatch:
            # Once more, one by one: whose fault is it?
            for unit in part:
                with _naming(unit):
                    side.tokenize([unit.text])
            raise
    return made


def _hidden(
    rows: Sequence[list[Encoding]], units: Sequence[Unit], mask: object
) -> list[list[Encoding]]:
    if not isinstance(mask, int):
        raise ConfigError("The bundle does not say which token is its mask.")
    made: list[list[Encoding]] = []
    for unit, (first, *_) in zip(units, rows, strict=True):
        with _naming(unit):
            made.append([hide_word(unit.text, first, mask)])
    return made


@contextmanager
def _naming(unit: Unit) -> Iterator[None]:
    """Errors about one text as a ConfigError that names its sample: DATA is at fault."""
    try:
        yield
    except (ConfigError, InputMismatch) as error:
        raise ConfigError(
            f"Sample {unit.sample + 1} of DATA cannot be read: {error.message}", hint=error.hint
        ) from error


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


def run_arrays(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    problem: str | None = None,
    batch_size: int = BATCH,
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both say to arrays.

    Raises ConfigError and InputMismatch as `run_texts` does.
    """
    component = model.manifest.components["model"]
    reference = Reference(source)
    symbol = batch_symbol(component.inputs)
    axes = {
        spec.name: spec.shape.index(symbol)
        for spec in (*component.inputs, *component.outputs)
        if symbol is not None and symbol in spec.shape
    }
    # An output without the batch axis mixes the samples of a batch: those run one by one.
    separable = all(spec.name in axes for spec in (*component.inputs, *component.outputs))
    size = batch_size if separable else 1
    pairs = Pairs([], [], [0.0] * len(samples))
    output = component.outputs[0].name
    counted = Counted(progress, len(samples))
    for start in range(0, len(samples), size):
        part = samples.inputs[start : start + size]
        feeds = {
            spec.name: _stacked([row[spec.name] for row in part], spec, axes.get(spec.name))
            for spec in component.inputs
        }
        expected, found = reference.run(feeds), model.run(feeds)
        add_outputs(pairs.distances, model.task, expected, found, problem=problem)
        alike = comparable(found, expected)
        for index in range(len(part)):
            for outputs, kept in ((expected, pairs.reference), (alike, pairs.candidate)):
                kept.append(_sample(outputs[output], axes.get(output), index))
            mine = {
                name: array if axes.get(name) is None else np.take(array, index, axis=axes[name])
                for name, array in alike.items()
            }
            if not_finite(mine) is not None:
                pairs.broken.add(start + index)
            theirs = {
                name: array if axes.get(name) is None else np.take(array, index, axis=axes[name])
                for name, array in expected.items()
            }
            pairs.gaps[start + index] = largest_gap(theirs, mine)
        done = start + len(part)
        counted.tell(f"Evaluated {done:,} of {len(samples):,} samples", done)
    return pairs


def _sample(array: Array, axis: int | None, index: int) -> Prediction:
    taken = array if axis is None else np.take(array, index, axis=axis)
    # A copy: a view would keep the whole batch in memory.
    return np.array(np.ravel(taken))


def _stacked(values: Sequence[object], spec: TensorSpec, axis: int | None) -> Array:
    """The arrays of some samples as one input, in the input's dtype. Raises ConfigError."""
    arrays = [np.asarray(cast("Array", value)) for value in values]
    if axis is None and len(spec.shape) == arrays[0].ndim + 1:
        # A graph of batch 1, samples without a batch axis.
        axis = 0
    stacked = arrays[0] if axis is None else np.stack(arrays, axis=axis)
    dtype = np.dtype(spec.dtype)
    if not np.can_cast(stacked.dtype, dtype, casting="same_kind"):
        raise ConfigError(
            f"The data's {spec.name} is {stacked.dtype}, the model takes {spec}.",
            hint=f"Write it as {spec.dtype}.",
        )
    return stacked.astype(dtype, copy=False)


def sample_feeds(model: Model, samples: Samples, count: int) -> list[dict[str, Array]]:
    """The graph's inputs for each of the first `count` texts (or arrays) of the samples."""
    # Not above: that module needs the pairs of this one.
    from edgekit.evaluation.media import prepared_feeds

    component = model.manifest.components["model"]
    if model.manifest.processor is None:
        symbol = batch_symbol(component.inputs)
        return [
            {
                spec.name: _stacked(
                    [row[spec.name]],
                    spec,
                    spec.shape.index(symbol)
                    if symbol is not None and symbol in spec.shape
                    else None,
                )
                for spec in component.inputs
            }
            for row in samples.inputs[:count]
        ]
    if reads_files(model.manifest):
        return prepared_feeds(model.manifest, samples, count)
    side = CandidateText(model)
    units = read_units(samples.take(range(min(count, len(samples)))), side.task)[:count]
    return [side.feeds(encodings[:1]) for encodings in _tokenized(side, units)]
