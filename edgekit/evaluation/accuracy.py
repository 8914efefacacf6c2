"""Accuracy of a bundle against the original model: both on the same samples, judged in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.core.results import Accuracy, Numerics, Verdict
from edgekit.evaluation.answers import Unit, gather, read_units
from edgekit.evaluation.metrics import IGNORED, Metric, Prediction, Truth, cosine, find_metric
from edgekit.evaluation.numerics import Distance, add_outputs, mismatch_of
from edgekit.evaluation.reference import Reference
from edgekit.evaluation.sides import CandidateText, OutputRow, ReferenceText, Side, per_token
from edgekit.evaluation.statistics import Budget, Drop, judge, paired_drop, parse_drop
from edgekit.runtime.batching import plan_batches
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.text import Encoding
from edgekit.runtime.worker import not_finite
from edgekit.runtime.workloads import batch_symbol
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

BATCH = 16
# Logits over a vocabulary are large: 16 rows of 128 tokens by 30,000 words are 250 MB.
_BATCH_OF_VOCABULARY = 4


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. ``distances`` hold what tolerances are checked against.

    ``problem`` is the reason of a failure that no metric shows: outputs of another shape, NaN.
    """

    verdict: Verdict
    accuracy: Accuracy
    numerics: Mapping[str, Numerics]
    distances: Mapping[str, Distance]
    drop: Drop
    budget: Budget
    notes: tuple[str, ...] = ()
    problem: str | None = None


# What a broken bundle answers is counted and told; numpy need not warn of it as well.
@np.errstate(invalid="ignore")
def evaluate(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    metric: str | None = None,
    max_drop: Budget | str = "1%",
    seed: int = 0,
    batch_size: int = BATCH,
    progress: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """The metric of both models on the same samples, the drop with its interval, the verdict.

    The bundle runs through the runtime, with its own tokenizer; the reference in PyTorch, with
    transformers' tokenizer. Without labels the metric is agreement with the reference. A bundle
    with NaN, infinities or another shape in its outputs fails, whatever the metric makes of it.

    Raises:
        ConfigError: samples of another task, a metric that does not fit, a label beyond the
            model's classes, or a reference whose metric is 0 under a relative budget.
        InputMismatch: a model does not take the samples.
    """
    if samples.task != model.task:
        raise ConfigError(f"The samples are for {samples.task}, the bundle is for {model.task}.")
    if not len(samples):
        raise ConfigError("There are no samples to evaluate on.")
    budget = parse_drop(max_drop) if isinstance(max_drop, str) else max_drop
    notes = list(samples.notes)
    if model.manifest.processor is None:
        pairs = _run_arrays(model, source, samples, batch_size, progress)
    else:
        pairs = _run_texts(model, source, samples, batch_size, notes, progress)
    chosen = _metric(model, source, samples, pairs, metric)
    truths = _truths(samples, pairs)
    _check_classes(samples, pairs)
    before = chosen.rows(pairs.reference, truths)
    after = chosen.rows(pairs.candidate, truths)
    score = chosen.score
    drop = paired_drop(
        before,
        after,
        chosen.aggregate,
        higher_is_better=chosen.higher_is_better,
        unit=budget.unit,
        scores=(score(before), score(after)) if score is not None else None,
        influence=None if chosen.influence is None else chosen.influence(before, after),
        seed=seed,
    )
    verdict, needed = judge(drop, budget)
    problem = _problem(pairs, len(samples))
    if problem is not None:
        verdict, needed = "fail", None
        notes.append(problem)
    whole = np.ones((1, len(samples)))
    return Evaluation(
        verdict=verdict,
        accuracy=Accuracy(
            metric=chosen.name,
            reference=float(chosen.aggregate(before, whole)[0]),
            candidate=float(chosen.aggregate(after, whole)[0]),
            drop=drop.value,
            drop_lower_95=drop.low,
            drop_upper_95=drop.high,
            samples=len(samples),
            samples_needed=needed,
            drop_unit=budget.unit,
        ),
        numerics={name: distance.numerics() for name, distance in pairs.distances.items()},
        distances=pairs.distances,
        drop=drop,
        budget=budget,
        notes=tuple(notes),
        problem=problem,
    )


@dataclass(frozen=True)
class _Pairs:
    """Both models' predictions, sample by sample, and how far their outputs lie apart.

    ``broken`` are the samples that the candidate answered with NaN or infinities.
    """

    reference: list[Prediction]
    candidate: list[Prediction]
    distances: dict[str, Distance]
    broken: set[int] = field(default_factory=set)


def _problem(pairs: _Pairs, samples: int) -> str | None:
    mismatch = mismatch_of(pairs.distances)
    if mismatch is not None or not pairs.broken:
        return mismatch
    return (
        f"The bundle's outputs hold NaN or infinities on {len(pairs.broken):,} of {samples:,}"
        " samples."
    )


def _comparable(found: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs, those of another shape than the reference's as NaN in the reference's."""
    return {
        name: np.full(expected[name].shape, np.nan, dtype=np.float32)
        if name in expected and expected[name].shape != array.shape
        else array
        for name, array in found.items()
    }


def _metric(
    model: Model, source: LoadedSource, samples: Samples, pairs: _Pairs, name: str | None
) -> Metric:
    problem = samples.problem or source.problem_type
    if problem is None and model.task == "text-classification":
        single = model.labels is not None and len(model.labels) == 1
        problem = "regression" if single else "single_label_classification"
    if problem is None and model.task == "custom" and np.size(pairs.reference[0]) == 1:
        problem = "regression"
    return find_metric(model.task, problem, labelled=samples.labels is not None, name=name)


def _truths(samples: Samples, pairs: _Pairs) -> Sequence[Truth]:
    if samples.labels is None:
        return pairs.reference
    if samples.task != "token-classification":
        return samples.labels
    # Words that the original does not reach within its length are nobody's mistake.
    found: list[Truth] = []
    for number, (label, seen) in enumerate(zip(samples.labels, pairs.reference, strict=True)):
        tags, said = np.asarray(label), np.asarray(seen)
        if tags.shape != said.shape:
            raise ConfigError(
                f"Sample {number + 1} has {said.size} tokens and {tags.size} tags.",
                hint="Give one tag per token.",
            )
        found.append(np.where(said == IGNORED, IGNORED, tags))
    return found


def _check_classes(samples: Samples, pairs: _Pairs) -> None:
    """Refuse labels beyond the classes, which would silently count as wrong for both."""
    if samples.labels is None or samples.problem == "regression":
        return
    if samples.task not in ("text-classification", "custom"):
        return
    classes = np.size(pairs.reference[0])
    for label in samples.labels:
        highest = max(label, default=0) if isinstance(label, tuple) else label
        if isinstance(highest, (int, float)) and highest >= classes:
            raise ConfigError(
                f"The label {highest} is unknown to the model, which has {classes} classes.",
                hint="Write class numbers from 0, or the model's label names.",
            )


def _run_texts(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    batch_size: int,
    notes: list[str],
    progress: Callable[[str], None],
) -> _Pairs:
    candidate = CandidateText(model)
    component = model.manifest.components["model"]
    reference = ReferenceText(source, candidate, per_token(component.inputs, component.outputs))
    if not reference.independent:
        notes.append("The reference's tokenizer tells no offsets: the bundle's own read the texts.")
    units = read_units(samples, candidate.task)
    limit = min(batch_size, _BATCH_OF_VOCABULARY) if samples.task == "fill-mask" else batch_size
    pairs = _Pairs([], [], {})
    before: dict[int, Prediction] = {}
    after: dict[int, Prediction] = {}
    differing = told = 0
    for done, batch in _batches(units, candidate, reference, limit):
        if done * 10 // len(units) != told:
            told = done * 10 // len(units)
            progress(f"Evaluated {done} of {len(units)} texts")
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
                    add_outputs(pairs.distances, model.task, left.outputs, right.outputs)
                    alike = _comparable(right.outputs, left.outputs)
                    answered[index] = replace(right, outputs=alike)
            before[item.index] = gather(samples.task, item.unit, expected, candidate)
            after[item.index] = gather(samples.task, item.unit, answered, candidate)
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
    units: Sequence[Unit], candidate: Side, reference: Side, limit: int
) -> Iterator[tuple[int, list[_Item]]]:
    """Units of like length together, longest first: what does not fit in memory fails at once."""
    ours = _tokenized(candidate, units)
    theirs = _tokenized(reference, units)
    lengths = [max(len(row) for row in rows) for rows in ours]
    done = 0
    for indices in plan_batches(lengths, limit):
        done += len(indices)
        yield done, [_Item(index, units[index], ours[index], theirs[index]) for index in indices]


def _tokenized(side: Side, units: Sequence[Unit]) -> list[list[Encoding]]:
    made: list[list[Encoding]] = []
    for unit in units:
        try:
            made.append(side.tokenize(unit.text))
        except InputMismatch as error:
            raise ConfigError(
                f"Sample {unit.sample + 1} of DATA cannot be read: {error.message}",
                hint=error.hint,
            ) from error
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


def _run_arrays(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    batch_size: int,
    progress: Callable[[str], None],
) -> _Pairs:
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
    pairs = _Pairs([], [], {})
    output = component.outputs[0].name
    told = 0
    for start in range(0, len(samples), size):
        part = samples.inputs[start : start + size]
        feeds = {
            spec.name: _stacked([row[spec.name] for row in part], spec, axes.get(spec.name))
            for spec in component.inputs
        }
        expected, found = reference.run(feeds), model.run(feeds)
        add_outputs(pairs.distances, model.task, expected, found)
        alike = _comparable(found, expected)
        for index in range(len(part)):
            for outputs, kept in ((expected, pairs.reference), (alike, pairs.candidate)):
                kept.append(_sample(outputs[output], axes.get(output), index))
            mine = {
                name: array if axes.get(name) is None else np.take(array, index, axis=axes[name])
                for name, array in alike.items()
            }
            if not_finite(mine) is not None:
                pairs.broken.add(start + index)
        if start * 10 // len(samples) != told:
            told = start * 10 // len(samples)
            progress(f"Evaluated {start} of {len(samples)} samples")
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
