"""Pictures in, the task's answers out: decoded, prepared, run together where they are of a size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.core.errors import BundleCorrupt, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.batching import fixed_batch
from edgekit.runtime.options import refuse_options
from edgekit.runtime.pictures.processor import Encoded, PictureProcessor
from edgekit.runtime.pictures.rules import (
    MOST_TENSOR_PIXELS,
    PictureRules,
    check_places,
    read_picture_rules,
)
from edgekit.runtime.pictures.tasks import PictureContext, make_picture_task
from edgekit.runtime.session import Array, Session

# The most pictures of one run. More of them gain little, a picture being much to compute already.
PICTURES = 8
# Bytes of prepared pictures that wait for others of their size.
_WAITING = 256 << 20


class PicturePredictor:
    """Pictures in, the task's answers out.

    A list is answered in its order. Pictures that are prepared to the same size run together,
    others one after the other: nothing is computed on padding, and an answer does not depend on
    the pictures beside it.
    """

    def __init__(
        self,
        session: Session,
        processor: Mapping[str, object],
        inputs: Sequence[TensorSpec],
        outputs: tuple[TensorSpec, ...],
        labels: tuple[str, ...] | None,
        name: str,
    ) -> None:
        self._session = session
        self._name = name
        self.processor = make_processor(processor, inputs)
        rules = self.processor.rules
        self._batch = fixed_batch(inputs, rules.inputs[0])
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in inputs}
        self.task = make_picture_task(PictureContext(rules.post, labels, outputs))

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `edgekit.runtime.predictor.Predictor`."""
        if options:
            refuse_options(options, self.task.options, self._name)
        if not isinstance(inputs, list):
            return self._run([self.processor.encode(inputs)], options)[0]
        limit = self._batch or batch_size or PICTURES
        answers: list[object] = [None] * len(inputs)
        waiting: dict[tuple[int, ...], list[tuple[int, Encoded]]] = {}
        bytes_waiting = 0
        for index, item in enumerate(inputs):
            encoded = self.processor.encode(item)
            alike = waiting.setdefault(encoded.pixels.shape, [])
            alike.append((index, encoded))
            bytes_waiting += encoded.pixels.nbytes
            while len(alike) >= limit or bytes_waiting > _WAITING:
                shape = max(waiting, key=lambda one: len(waiting[one]))
                group = waiting.pop(shape)
                bytes_waiting -= sum(one.pixels.nbytes for _, one in group)
                self._answer(group, answers, options)
                alike = []
        for group in waiting.values():
            self._answer(group, answers, options)
        return answers

    def _answer(
        self,
        group: Sequence[tuple[int, Encoded]],
        answers: list[object],
        options: Mapping[str, object],
    ) -> None:
        made = self._run([encoded for _, encoded in group], options)
        for (index, _), answer in zip(group, made, strict=True):
            answers[index] = answer

    def _run(self, pictures: Sequence[Encoded], options: Mapping[str, object]) -> list[object]:
        """The answers to pictures of one size, in batches of the graph's size where it has one."""
        size = self._batch or len(pictures)
        height, width = self.processor.area(pictures[0])
        if self._batch is not None and size * height * width > MOST_TENSOR_PIXELS:
            raise InputMismatch(
                f"{size} pictures of {width}×{height} are one batch of this graph, more than"
                f" {MOST_TENSOR_PIXELS // 10**6} million pixels.",
                hint="Make the picture smaller first, or export with a smaller --static batch.",
            )
        answers: list[object] = []
        for start in range(0, len(pictures), size):
            part = pictures[start : start + size]
            # The graph takes exactly `size` rows: the last one stands in for those that lack.
            outputs = self._session.run(self.feeds([*part, *[part[-1]] * (size - len(part))]))
            read = [outputs[name] for name in self.task.outputs]
            answers += [
                self.task.answer(
                    [output[row] for output in read],
                    encoded.decoded if self.task.per_pixel else encoded.size,
                    options,
                )
                for row, encoded in enumerate(part)
            ]
        return answers

    def feeds(self, pictures: Sequence[Encoded]) -> dict[str, Array]:
        """The graph's inputs for prepared pictures, in its types."""
        made = self.processor.collate(pictures)
        return {name: array.astype(self._dtypes[name], copy=False) for name, array in made.items()}


def make_processor(
    processor: Mapping[str, object], inputs: Sequence[TensorSpec]
) -> PictureProcessor:
    """The processor for a graph's inputs, filling pictures up to the size that it fixes.

    Raises MissingDependency, BundleCorrupt, BundleVersion.
    """
    _, size = check_graph(processor, inputs)
    return PictureProcessor(processor, size=size)


def check_graph(
    processor: Mapping[str, object], inputs: Sequence[TensorSpec]
) -> tuple[PictureRules, tuple[int, int] | None]:
    """A processor's rules and the (height, width) that the graph fixes, if they fit each other.

    Raises BundleCorrupt, BundleVersion.
    """
    rules = read_picture_rules(processor)
    taken = {spec.name: spec for spec in inputs}
    if set(taken) != set(rules.inputs) or len(taken[rules.inputs[0]].shape) != 4:
        raise BundleCorrupt(
            f"The graph takes {', '.join(map(str, inputs))}; the processor makes"
            f" {', '.join(rules.inputs)}, the first of four dimensions.",
            hint="Export the bundle again.",
        )
    shape = taken[rules.inputs[0]].shape
    height, width = shape[2:] if rules.layout == "chw" else shape[1:3]
    if not isinstance(height, int) or not isinstance(width, int):
        check_places(rules)
        return rules, None
    made = rules.size
    if made is not None and made != (height, width):
        raise BundleCorrupt(
            f"The processor makes pictures of {made[1]}×{made[0]}, the graph takes"
            f" {width}×{height}.",
            hint="Export the bundle again.",
        )
    batch = fixed_batch(inputs, rules.inputs[0]) or 1
    if batch * height * width > MOST_TENSOR_PIXELS:
        raise BundleCorrupt(
            f"The graph takes {batch} pictures of {width}×{height} at once; the limit is"
            f" {MOST_TENSOR_PIXELS // 10**6} million pixels.",
            hint="Export with a smaller --static batch, height or width.",
        )
    check_places(rules, (height, width))
    return rules, (height, width)
