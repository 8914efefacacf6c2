"""Runs both models on the same pictures, each with a processing of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.metrics import Prediction
from edgekit.evaluation.numerics import add_outputs, largest_gap
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.reference import Reference
from edgekit.runtime.model import Model
from edgekit.runtime.pictures.decoding import open_picture
from edgekit.runtime.pictures.predicting import PICTURES, fixed_batch, make_processor
from edgekit.runtime.pictures.processor import Encoded, PictureProcessor
from edgekit.runtime.pictures.tasks import segment
from edgekit.runtime.session import Array
from edgekit.runtime.worker import not_finite
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


def run_pictures(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    problem: str | None = None,
    batch_size: int = PICTURES,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both say to pictures: the bundle with its processor, the origin with transformers'.

    A module of one's own has no processor but the declared one, which then prepares for both.

    Raises:
        ConfigError: a picture that cannot be read.
        InputMismatch: a model does not take the pictures.
    """
    reader = _Reader(model, source)
    if source.image_processor is None:
        notes.append("The reference has no picture processing of its own: the bundle's is used.")
    reference = Reference(source)
    pairs = Pairs([], [], [0.0] * len(samples))
    size = min(batch_size, PICTURES) if reader.batch is None and reader.same_size else 1
    counted = Counted(progress, len(samples))
    for start in range(0, len(samples), size):
        part = [row["image"] for row in samples.inputs[start : start + size]]
        ours = [reader.encode(item, start + index) for index, item in enumerate(part)]
        found = reader.first_rows(model.run(reader.feeds(ours)), len(part))
        expected = reference.run(reader.reference_feeds(part, ours))
        add_outputs(pairs.distances, model.task, expected, found, problem=problem)
        for row, encoded in enumerate(ours):
            theirs = {name: array[row] for name, array in expected.items()}
            mine = {name: array[row] for name, array in found.items()}
            if not_finite(mine) is not None:
                pairs.broken.add(start + row)
            pairs.gaps[start + row] = largest_gap(theirs, mine)
            pairs.reference.append(reader.prediction(theirs, encoded))
            pairs.candidate.append(reader.prediction(mine, encoded))
        done = start + len(part)
        counted.tell(f"Evaluated {done:,} of {len(samples):,} pictures", done)
    return pairs


def picture_feeds(model: Model, samples: Samples, count: int) -> list[dict[str, Array]]:
    """The graph's inputs for each of the first `count` pictures of the samples."""
    reader = _Reader(model, None)
    rows = [row["image"] for row in samples.inputs[:count]]
    return [reader.feeds([reader.encode(item, at)]) for at, item in enumerate(rows)]


def read_mask(value: object) -> Array:
    """The class of every pixel in a mask's file, ``[height, width]``.

    Raises ConfigError for one that holds colours instead of class numbers.
    """
    from PIL import Image

    assert isinstance(value, Path)
    try:
        with Image.open(value) as image:
            found = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"The mask {value} cannot be read: {error}.") from error
    if found.ndim != 2 or found.dtype.kind not in "ui":
        raise ConfigError(
            f"The mask {value} holds {found.dtype}{list(found.shape)}, not class numbers.",
            hint="Write it with one channel of 8 bits: 0, 1, … the class of each pixel.",
        )
    return found


class _Reader:
    """Prepares pictures for both sides, and reads what metrics compare from the outputs."""

    def __init__(self, model: Model, source: LoadedSource | None) -> None:
        component = model.manifest.components["model"]
        processor = model.manifest.processor or {}
        self.processor: PictureProcessor = make_processor(processor, component.inputs)
        self.same_size = self.processor.rules.size is not None
        self.batch = fixed_batch(component.inputs, self.processor.rules.inputs[0])
        self._task = model.task
        self._output = component.outputs[0].name
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in component.inputs}
        self._source = source

    def encode(self, item: object, index: int) -> Encoded:
        """A picture of DATA prepared as the bundle does it. Raises ConfigError, naming it."""
        try:
            return self.processor.encode(item)
        except InputMismatch as error:
            raise ConfigError(
                f"Sample {index + 1} of DATA cannot be read: {error.message}", hint=error.hint
            ) from error

    def feeds(self, pictures: Sequence[Encoded]) -> dict[str, Array]:
        """The graph's inputs; a graph of a fixed batch gets the last picture several times."""
        missing = (self.batch or len(pictures)) - len(pictures)
        made = self.processor.collate([*pictures, *[pictures[-1]] * missing])
        return {name: array.astype(self._dtypes[name], copy=False) for name, array in made.items()}

    def first_rows(self, outputs: Mapping[str, Array], count: int) -> dict[str, Array]:
        """The outputs without the rows that only fill a fixed batch."""
        return {name: array[:count] for name, array in outputs.items()}

    def reference_feeds(self, items: Sequence[object], ours: Sequence[Encoded]) -> dict[str, Array]:
        """The pictures as transformers prepares them, where the origin has its processor."""
        assert self._source is not None
        theirs = self._source.image_processor
        if theirs is None:
            return self.processor.collate(ours)
        made = theirs(images=[open_picture(item) for item in items], return_tensors="np")
        return {name: np.asarray(made[name]) for name in self._source.sample_inputs}

    def prediction(self, outputs: Mapping[str, Array], encoded: Encoded) -> Prediction:
        """Scores of classes, or the class of every pixel; a copy that keeps no batch alive."""
        if self._task == "image-segmentation":
            classes = segment(outputs[self._output], encoded.size)
            return classes.astype(np.uint8) if classes.max(initial=0) < 256 else classes
        return np.array(np.ravel(outputs[self._output]), dtype=np.float64)
