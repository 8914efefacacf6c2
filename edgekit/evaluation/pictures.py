"""Runs both models on the same pictures, each with a processing of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.manifest import Manifest
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.metrics import Prediction
from edgekit.evaluation.naming import reading
from edgekit.evaluation.numerics import add_outputs, largest_gap
from edgekit.evaluation.pairs import Pairs, comparable
from edgekit.evaluation.picture_truths import MaskTruths, wrong_size
from edgekit.evaluation.reference import Reference
from edgekit.runtime.batching import fixed_batch
from edgekit.runtime.model import Model
from edgekit.runtime.pictures.decoding import open_picture
from edgekit.runtime.pictures.predicting import PICTURES, make_processor
from edgekit.runtime.pictures.processor import Encoded, PictureProcessor
from edgekit.runtime.pictures.tasks import PictureContext, detect, make_picture_task, segment
from edgekit.runtime.session import Array
from edgekit.runtime.worker import not_finite
from edgekit.sources.data import Samples
from edgekit.sources.data_boxes import Boxes

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


def run_pictures(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    problem: str | None = None,
    masks: MaskTruths | None = None,
    batch_size: int = PICTURES,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both say to pictures: the bundle with its processor, the origin with transformers'.

    A module of one's own has no processor but the declared one, which then prepares for both. With
    `masks` a metric's rows of each picture are kept in place of its answers, which are as large as
    the picture.

    Raises:
        ConfigError: a picture that cannot be read.
        InputMismatch: a model does not take the pictures.
    """
    reader = _Reader(model.manifest, source)
    if source.image_processor is None:
        notes.append("The reference has no picture processing of its own: the bundle's is used.")
    reference = Reference(source)
    pairs = Pairs([], [], [0.0] * len(samples), counted=masks is not None)
    size = min(batch_size, PICTURES) if reader.batch is None and reader.same_size else 1
    counted = Counted(progress, len(samples))
    for start in range(0, len(samples), size):
        part = [row["image"] for row in samples.inputs[start : start + size]]
        ours = reader.encode(samples, range(start, start + len(part)))
        found = reader.first_rows(model.run(reader.feeds(ours)), len(part))
        expected = reference.run(reader.reference_feeds(part, ours))
        add_outputs(pairs.distances, model.task, expected, found, problem=problem)
        alike = comparable(found, expected)
        for row, encoded in enumerate(ours):
            _check_size(samples, start + row, encoded)
            theirs = {name: array[row] for name, array in expected.items()}
            mine = {name: array[row] for name, array in alike.items()}
            if not_finite(mine) is not None:
                pairs.broken.add(start + row)
            pairs.gaps[start + row] = largest_gap(theirs, mine)
            before, after = reader.prediction(theirs, encoded), reader.prediction(mine, encoded)
            if masks is not None:
                before, after, told = masks.rows(start + row, before, after)
                pairs.told.append(told)
            pairs.reference.append(before)
            pairs.candidate.append(after)
        done = start + len(part)
        counted.tell(f"Evaluated {done:,} of {len(samples):,} pictures", done)
    return pairs


def _check_size(samples: Samples, index: int, encoded: Encoded) -> None:
    """Raise ConfigError for boxes that were drawn in a picture of another size."""
    label = None if samples.labels is None else samples.labels[index]
    size = label.size if isinstance(label, Boxes) else None
    if size is not None and size != encoded.size:
        raise wrong_size(f"The boxes of sample {samples.row(index)} were", size, encoded.size)


def picture_batches(manifest: Manifest, samples: Samples, batch: int) -> Iterator[dict[str, Array]]:
    """The graph's inputs for `batch` pictures of the samples after the other, whole batches only.

    Raises ConfigError for a picture that cannot be read.
    """
    reader = _Reader(manifest, None)
    for start in range(0, len(samples) - batch + 1, batch):
        yield reader.feeds(reader.encode(samples, range(start, start + batch)))


class _Reader:
    """Prepares pictures for both sides, and reads what metrics compare from the outputs."""

    def __init__(self, manifest: Manifest, source: LoadedSource | None) -> None:
        component = manifest.components["model"]
        self.processor: PictureProcessor = make_processor(
            manifest.processor or {}, component.inputs
        )
        rules = self.processor.rules
        self.same_size = rules.size is not None
        self.batch = fixed_batch(component.inputs, rules.inputs[0])
        self._task = manifest.task
        # A module of one's own may have others, and before it: judged is what answers.
        task = make_picture_task(PictureContext(rules.post, manifest.labels, component.outputs))
        self._output, self._outputs = task.outputs[0], task.outputs
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in component.inputs}
        self._source = source

    def encode(self, samples: Samples, indices: Sequence[int]) -> list[Encoded]:
        """Some pictures of DATA as the bundle prepares them. Raises ConfigError, naming the row."""
        made: list[Encoded] = []
        for index in indices:
            with reading(samples, index):
                made.append(self.processor.encode(samples.inputs[index]["image"]))
        return made

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
        """Scores of classes, the class of every pixel, boxes, or features; a copy, not the batch.

        Boxes are ``[queries, 6]``: score, class and corners in the picture's own pixels.

        Of many vectors it is their mean, as of texts: over patches, or the places of a map.
        """
        if self._task == "image-segmentation":
            classes = segment(outputs[self._output], encoded.size)
            return classes.astype(np.uint8) if classes.max(initial=0) < 256 else classes
        if self._task == "object-detection":
            logits, places = (outputs[name] for name in self._outputs)
            scores, numbers, corners = detect(logits, places, encoded.size)
            return np.column_stack([scores, numbers.astype(np.float32), corners])
        found = np.array(outputs[self._output], dtype=np.float64)
        if self._task == "feature-extraction" and found.ndim > 1:
            axes = 0 if found.ndim == 2 else tuple(range(1, found.ndim))
            return np.asarray(found.mean(axis=axes))
        return np.ravel(found)
