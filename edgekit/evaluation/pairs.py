"""Runs both models on the same samples and keeps what each said, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.metrics import Prediction
from edgekit.evaluation.numerics import Distance, add_outputs, largest_gap
from edgekit.evaluation.reference import Reference
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.worker import not_finite
from edgekit.sources.data import Samples
from edgekit.sources.data_pictures import reads_files

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

BATCH = 16


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
    # Not above: those modules need the pairs of this one.
    from edgekit.evaluation.media import prepared_feeds
    from edgekit.evaluation.texts import first_feeds

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
    return first_feeds(model, samples, count)
