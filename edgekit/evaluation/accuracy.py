"""Accuracy of a bundle against the original model: both on the same samples, judged in pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Manifest
from edgekit.core.measurements import Accuracy, Numerics, Verdict, WorstSample
from edgekit.evaluation.binomial import mcnemar_of
from edgekit.evaluation.generation.comparing import run_generated
from edgekit.evaluation.generation.original import Original
from edgekit.evaluation.generation.writers import readable
from edgekit.evaluation.metrics import (
    IGNORED,
    FunctionMetric,
    Metric,
    Prediction,
    Truth,
    find_function,
    find_metric,
)
from edgekit.evaluation.metrics.table import CLASSIFIED
from edgekit.evaluation.numerics import Distance, mismatch_of
from edgekit.evaluation.pairs import BATCH, Pairs, run_arrays
from edgekit.evaluation.picture_truths import (
    MaskTruths,
    box_truths,
    check_truths,
    masks_notes,
    read_mask,
    reduces_labels,
)
from edgekit.evaluation.pictures import run_pictures
from edgekit.evaluation.sounds import run_sounds
from edgekit.evaluation.statistics import (
    DEFAULT_DROP,
    FEW_DISAGREEMENTS,
    Budget,
    Drop,
    drawn_drop,
    judge,
    paired_drop,
    parse_drop,
)
from edgekit.evaluation.texts import CandidateTexts, run_texts
from edgekit.evaluation.worst import worst_samples
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.model import Model
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

WORST = 20


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. ``distances`` hold what tolerances are checked against.

    ``worst`` are the samples on which the two models differ most, worst first. ``problem`` is the
    reason of a failure that no metric shows: outputs of another shape, NaN.
    """

    verdict: Verdict
    accuracy: Accuracy
    numerics: Mapping[str, Numerics]
    distances: Mapping[str, Distance]
    drop: Drop
    budget: Budget
    notes: tuple[str, ...] = ()
    problem: str | None = None
    worst: tuple[WorstSample, ...] = ()


# What a broken bundle answers is counted and told; numpy need not warn of it as well.
@np.errstate(invalid="ignore")
def evaluate(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    metric: str | None = None,
    max_drop: Budget | str = DEFAULT_DROP,
    seed: int = 0,
    batch_size: int = BATCH,
    texts: CandidateTexts | None = None,
    original: Original | None = None,
    worst: int = WORST,
    progress: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """The metric of both models on the same samples, the drop with its interval, the verdict.

    The bundle runs through the runtime, with its own tokenizer; the reference in PyTorch, with
    transformers' tokenizer. Without labels the metric is agreement with the reference. A bundle
    with NaN, infinities or another shape in its outputs fails, whatever the metric makes of it.

    Args:
        metric: one that fits the task, or a function of one's own (see `FunctionMetric`).
        texts: the same samples as the bundle has read them.
        original: the source itself where it generates: it remembers what it has said of samples.
        worst: keep so many of the samples that differ.

    Raises:
        ConfigError: samples of another task, a metric that does not fit or fails, a label beyond
            the model's classes, or a reference whose metric is 0 under a relative budget.
        InputMismatch: a model does not take the samples.
    """
    if samples.task != model.task:
        raise ConfigError(f"The samples are for {samples.task}, the bundle is for {model.task}.")
    if not len(samples):
        raise ConfigError("There are no samples to evaluate on.")
    generates = model.manifest.generation is not None
    if "model" not in model.manifest.components and not generates:
        raise ConfigError(
            f"There is no metric for a bundle of {' and '.join(model.manifest.components)}.",
            hint="Leave --data out: the vectors of both are compared with the original's.",
        )
    budget = parse_drop(max_drop) if isinstance(max_drop, str) else max_drop
    notes = list(samples.notes)
    # Before anything runs: a mistyped name should not cost an hour.
    problem = problem_of(model, source, samples)
    chosen = choose_metric(model.manifest, samples, problem, metric)
    check_truths(samples, model.labels or ())
    if generates:
        samples, left = readable(model, samples)
        notes += [] if left is None else [left]
    notes += masks_notes(samples, model.manifest)
    pairs = _run(
        model, source, samples, chosen, problem, batch_size, texts, original, notes, progress
    )
    truths = _truths(samples, pairs, model.manifest)
    _check_classes(samples, problem, pairs)
    found = judge_pairs(chosen, pairs, truths, budget, seed, labelled=samples.labels is not None)
    if found.note:
        notes.append(found.note)
    verdict, needed = judge(found.drop, budget)
    failure = _failure(pairs, len(samples))
    if failure is not None:
        verdict, needed = "fail", None
        notes.append(failure)
    return Evaluation(
        verdict=verdict,
        accuracy=Accuracy(
            metric=chosen.name,
            reference=found.reference,
            candidate=found.candidate,
            drop=found.drop.value,
            drop_lower_95=found.drop.low,
            drop_upper_95=found.drop.high,
            samples=len(samples),
            samples_needed=needed,
            drop_unit=budget.unit,
            mcnemar_p=found.mcnemar_p,
            excluded=samples.excluded,
        ),
        numerics={name: distance.numerics() for name, distance in pairs.distances.items()},
        distances=pairs.distances,
        drop=found.drop,
        budget=budget,
        notes=tuple(notes),
        problem=failure,
        worst=worst_samples(
            samples, pairs, problem, labels=model.labels or (), metric=chosen.name, count=worst
        ),
    )


@dataclass(frozen=True)
class Judged:
    """A metric's values and the drop between them."""

    reference: float
    candidate: float
    drop: Drop
    mcnemar_p: float | None = None
    note: str | None = None


def judge_pairs(
    metric: Metric | FunctionMetric,
    pairs: Pairs,
    truths: Sequence[Truth],
    budget: Budget,
    seed: int,
    *,
    labelled: bool,
) -> Judged:
    """A metric's values on both sides of the pairs, and the drop with its interval."""
    if isinstance(metric, FunctionMetric):
        return _judge_function(metric, pairs, truths, budget, seed)
    if pairs.counted:
        before, after = (
            np.array(rows, dtype=np.float64) for rows in (pairs.reference, pairs.candidate)
        )
    else:
        before = metric.rows(pairs.reference, truths)
        after = metric.rows(pairs.candidate, truths)
    score = metric.score
    scores = None if score is None else (score(before), score(after))
    drop = paired_drop(
        before,
        after,
        metric.aggregate,
        higher_is_better=metric.higher_is_better,
        unit=budget.unit,
        scores=scores,
        influence=None if metric.influence is None else metric.influence(before, after),
        moved=None if metric.moved is None else metric.moved(before, after),
        seed=seed,
        resamples=metric.resamples,
    )
    whole = np.ones((1, len(before)))
    return Judged(
        float(metric.aggregate(before, whole)[0]),
        float(metric.aggregate(after, whole)[0]),
        drop,
        # The reference cannot be wrong where it is the truth: a test of symmetry has no meaning.
        mcnemar_of(*scores) if scores is not None and labelled else None,
    )


def _judge_function(
    metric: FunctionMetric, pairs: Pairs, truths: Sequence[Truth], budget: Budget, seed: int
) -> Judged:
    before, after = (metric.over(said, truths) for said in (pairs.reference, pairs.candidate))
    moved = metric.moved(
        pairs.reference, pairs.candidate, truths, enough=FEW_DISAGREEMENTS, seed=seed
    )
    drop = drawn_drop(
        before,
        after,
        len(pairs.reference),
        higher_is_better=metric.higher_is_better,
        unit=budget.unit,
        disagreeing=moved,
        seed=seed,
    )
    note = None
    if moved < FEW_DISAGREEMENTS:
        note = (
            f"Only {moved} predictions make a difference to {metric.name}: its interval is that of"
            " a mean of scores between 0 and 1."
        )
    return Judged(before(None), after(None), drop, note=note)


def _run(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    metric: Metric | FunctionMetric,
    problem: str | None,
    batch_size: int,
    texts: CandidateTexts | None,
    original: Original | None,
    notes: list[str],
    progress: Callable[[str], None],
) -> Pairs:
    if model.manifest.generation is not None:
        original = original or Original(source)
        return run_generated(model, original, samples, notes=notes, progress=progress)
    if (model.manifest.processor or {}).get("kind") == "image":
        masks = None
        if samples.task == "image-segmentation" and isinstance(metric, Metric):
            masks = MaskTruths(metric, samples, reduces_labels(model.manifest))
        return run_pictures(
            model,
            source,
            samples,
            problem=problem,
            masks=masks,
            batch_size=batch_size,
            notes=notes,
            progress=progress,
        )
    if (model.manifest.processor or {}).get("kind") == "audio":
        return run_sounds(model, source, samples, problem=problem, notes=notes, progress=progress)
    if model.manifest.processor is None:
        return run_arrays(
            model, source, samples, problem=problem, batch_size=batch_size, progress=progress
        )
    return run_texts(
        model,
        source,
        samples,
        problem=problem,
        candidate=texts,
        hide_words=isinstance(metric, Metric) and metric.hides_a_word,
        batch_size=batch_size,
        notes=notes,
        progress=progress,
    )


def _failure(pairs: Pairs, samples: int) -> str | None:
    mismatch = mismatch_of(pairs.distances)
    if mismatch is not None or not pairs.broken:
        return mismatch
    return (
        f"The bundle's outputs hold NaN or infinities on {len(pairs.broken):,} of {samples:,}"
        " samples."
    )


def problem_of(model: Model, source: LoadedSource, samples: Samples | None) -> str | None:
    """The kind of classification, from DATA or the model, None where there is none.

    In the words of transformers' ``config.problem_type``.
    """
    told = None if samples is None else samples.problem
    return problem_in(model.manifest, told or source.problem_type)


def problem_in(manifest: Manifest, told: str | None) -> str | None:
    """The same where no model is open: what was `told`, or else what the bundle looks like."""
    if told is not None:
        return told
    if manifest.task in CLASSIFIED and manifest.task != "custom":
        single = manifest.labels is not None and len(manifest.labels) == 1
        return "regression" if single else "single_label_classification"
    if manifest.task == "custom" and _gives_one_number(manifest):
        return "regression"
    return None


def _gives_one_number(manifest: Manifest) -> bool:
    """Whether the first output holds one value per sample."""
    component = manifest.components["model"]
    batch = batch_symbol(component.inputs)
    sizes = [1 if size == batch else size for size in component.outputs[0].shape]
    return all(size == 1 for size in sizes)


def choose_metric(
    manifest: Manifest, samples: Samples, problem: str | None, name: str | None
) -> Metric | FunctionMetric:
    """The metric that a bundle is judged by. Raises ConfigError for one that does not fit."""
    own = None if name is None else find_function(name)
    if own is not None:
        return own
    return find_metric(
        manifest.task,
        problem,
        labelled=samples.labels is not None,
        name=name,
        classes=manifest.labels or (),
    )


def _truths(samples: Samples, pairs: Pairs, manifest: Manifest) -> Sequence[Truth]:
    if samples.task == "object-detection":
        return box_truths(samples, pairs.reference, manifest)
    if samples.task == "image-segmentation" and samples.labels is not None and not pairs.counted:
        # A function of one's own is given all masks at once.
        reduced = reduces_labels(manifest)
        return [read_mask(label, reduced=reduced) for label in samples.labels]
    if samples.labels is None:
        return pairs.reference
    if samples.task != "token-classification":
        return cast("Sequence[Truth]", samples.labels)
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


def _check_classes(samples: Samples, problem: str | None, pairs: Pairs) -> None:
    """Refuse labels that are no class: wrong for both in one metric, the last class in another."""
    if samples.labels is None or problem == "regression":
        return
    if samples.task not in CLASSIFIED:
        return
    first: Prediction = pairs.reference[0]
    classes = np.size(first)
    for label in samples.labels:
        highest = max(label, default=0) if isinstance(label, tuple) else label
        lowest = min(label, default=0) if isinstance(label, tuple) else label
        if isinstance(lowest, (int, float)) and lowest < 0:
            raise ConfigError(
                f"The label {lowest} is no class: classes are counted from 0 to {classes - 1}.",
                hint="Leave out the rows without a label, or give theirs.",
            )
        if isinstance(highest, (int, float)) and highest >= classes:
            raise ConfigError(
                f"The label {highest} is unknown to the model, which has {classes} classes.",
                hint="Write class numbers from 0, or the model's label names.",
            )
