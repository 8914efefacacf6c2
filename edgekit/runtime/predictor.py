"""From what an app has (texts, or plain arrays) to what it wants, over one session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np

from edgekit.core.errors import BundleCorrupt
from edgekit.core.manifest import Manifest, TensorSpec
from edgekit.runtime.batching import BATCH, plan_batches
from edgekit.runtime.inputs import InputCheck
from edgekit.runtime.options import refuse_options
from edgekit.runtime.session import Array, Session
from edgekit.runtime.tasks import Context, Row, make_text_task
from edgekit.runtime.text import Encoding, Text, TextProcessor

if TYPE_CHECKING:
    from edgekit.runtime.pictures.predicting import PicturePredictor

# Texts of one list that are tokenized before the first of them runs: enough to sort by length,
# few enough to be small in memory.
_SORTED_TOGETHER = 1024


class Predictor(Protocol):
    """Answers one input, or a list of them with a list."""

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """Raises InputMismatch for inputs, ConfigError for options that do not fit the task."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A predictor whose answers come in pieces."""

    def stream(self, inputs: object, options: Mapping[str, object]) -> Iterator[str]:
        """The pieces of one answer. Raises what a call does, before the first piece."""
        ...


class TensorPredictor:
    """Tensors in, tensors out: what a bundle without a processor does."""

    def __init__(self, session: Session, check: InputCheck, task: str) -> None:
        self._session = session
        self._check = check
        self._task = task

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `Predictor`. ``batch_size`` has nothing to batch here."""
        refuse_options(options, frozenset(), self._task)
        if isinstance(inputs, list):
            return [self._one(item) for item in inputs]
        return self._one(inputs)

    def _one(self, item: object) -> dict[str, Array]:
        return self._session.run(self._check(cast("Mapping[str, Array]", item)))


class TextPredictor:
    """Texts in, the task's answers out: tokenized, batched by length, run, read."""

    def __init__(
        self,
        session: Session,
        manifest: Manifest,
        directory: Path,
        *,
        processor: Mapping[str, object] | None = None,
        part: str = "model",
    ) -> None:
        processor = processor or manifest.processor or {}
        component = manifest.components[part]
        post = processor.get("post")
        batch, length = _static_shape(component.inputs, processor)
        self._session = session
        self._static_batch = batch
        self.processor = TextProcessor(processor, directory, length=length)
        _check_inputs(component.inputs, self.processor.rules.inputs)
        # Tokenization makes int64; a graph may want int32.
        self._casts = {
            spec.name: np.dtype(spec.dtype) for spec in component.inputs if spec.dtype != "int64"
        }
        self.task = make_text_task(
            Context(
                post if isinstance(post, Mapping) else {},
                manifest.labels,
                component.outputs,
                self.processor,
            )
        )
        self._name = manifest.task

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `Predictor`."""
        task = self.task
        if options:
            refuse_options(options, task.options, self._name)
        if not isinstance(inputs, list):
            text = task.read(inputs)
            encodings = self.processor.tokenize(text)
            return task.alone(task.answer(text, self._run(encodings), options), inputs)
        texts = [task.read(item) for item in inputs]
        limit = self._static_batch or batch_size or BATCH
        answers: list[object] = []
        for start in range(0, len(texts), _SORTED_TOGETHER):
            answers += self._many(texts[start : start + _SORTED_TOGETHER], limit, options)
        return answers

    def _many(
        self, texts: Sequence[Text], limit: int, options: Mapping[str, object]
    ) -> list[object]:
        """The answers to some texts; a text is answered, and its rows let go, when they are there.

        Outputs per token and vocabulary entry take megabytes a row.
        """
        encodings: list[Encoding] = []
        owners: list[int] = []
        waiting: list[int] = []
        for index, text in enumerate(texts):
            found = self.processor.tokenize(text)
            encodings.extend(found)
            owners.extend([index] * len(found))
            waiting.append(len(found))
        answers: list[object] = [None] * len(texts)
        rows: dict[int, list[tuple[int, Row]]] = {}
        for indices in plan_batches([len(encoding) for encoding in encodings], limit):
            made = self._run([encodings[index] for index in indices])
            for index, row in zip(indices, made, strict=True):
                owner = owners[index]
                rows.setdefault(owner, []).append((index, row))
                waiting[owner] -= 1
                if waiting[owner] == 0:
                    # Windows come back longest first; they are read in order.
                    own = sorted(rows.pop(owner), key=lambda pair: pair[0])
                    ordered = [row for _, row in own]
                    answers[owner] = self.task.answer(texts[owner], ordered, options)
        return answers

    def _run(self, encodings: Sequence[Encoding]) -> list[Row]:
        """The rows of some encodings, in batches of the graph's size when that is fixed."""
        size = self._static_batch
        if size is None:
            return self._batch(encodings, len(encodings))
        rows: list[Row] = []
        for start in range(0, len(encodings), size):
            part = encodings[start : start + size]
            # The graph takes exactly `size` rows: the last one stands in for those that lack.
            filled = [*part, *[part[-1]] * (size - len(part))]
            rows.extend(self._batch(filled, len(part)))
        return rows

    def _batch(self, encodings: Sequence[Encoding], wanted: int) -> list[Row]:
        task = self.task
        feeds: dict[str, Array] = dict(self.processor.collate(encodings))
        for name, dtype in self._casts.items():
            feeds[name] = feeds[name].astype(dtype)
        outputs = self._session.run(feeds)
        read = [outputs[name] for name in task.outputs]
        if not task.per_token:
            return [
                Row(encodings[index], tuple([output[index] for output in read]))
                for index in range(wanted)
            ]
        rows = []
        for index in range(wanted):
            encoding = encodings[index]
            width = read[0].shape[1]
            span = self.processor.span(len(encoding), width)
            rows.append(Row(encoding, tuple([output[index, span] for output in read])))
        return rows


def make_predictor(
    session: Session, check: InputCheck, manifest: Manifest, directory: Path
) -> Predictor:
    """The predictor for a bundle's processor.

    Raises MissingDependency, BundleCorrupt, BundleVersion.
    """
    processor = manifest.processor
    if processor is None:
        return TensorPredictor(session, check, manifest.task)
    if processor.get("kind") == "image":
        return _pictures(session, manifest, processor, "model")
    if processor.get("kind") == "audio":
        return _sounds(session, manifest, processor)
    if processor.get("kind") == "generation":
        return _generating(session, manifest, processor, directory)
    if processor.get("kind") != "image-text":
        return TextPredictor(session, manifest, directory)
    from edgekit.runtime.joined import parts_of
    from edgekit.runtime.towers import TowerPredictor

    sessions = parts_of(session)
    if sessions is None or set(sessions) != {"image", "text"}:
        raise BundleCorrupt(
            f"The processor is for the components image and text; the bundle has"
            f" {', '.join(manifest.components)}.",
            hint="Export the bundle again.",
        )
    parts = {name: cast("Mapping[str, object]", processor[name]) for name in ("image", "text")}
    return TowerPredictor(
        _pictures(sessions["image"], manifest, parts["image"], "image"),
        TextPredictor(sessions["text"], manifest, directory, processor=parts["text"], part="text"),
    )


def _pictures(
    session: Session, manifest: Manifest, processor: Mapping[str, object], part: str
) -> PicturePredictor:
    # A bundle of texts need not wait for the import.
    from edgekit.runtime.pictures.predicting import PicturePredictor

    component = manifest.components[part]
    return PicturePredictor(
        session, processor, component.inputs, component.outputs, manifest.labels, manifest.task
    )


def _sounds(session: Session, manifest: Manifest, processor: Mapping[str, object]) -> Predictor:
    from edgekit.runtime.sound.predicting import SoundPredictor

    component = manifest.components["model"]
    return SoundPredictor(
        session, processor, component.inputs, component.outputs, manifest.labels, manifest.task
    )


def _generating(
    session: Session, manifest: Manifest, processor: Mapping[str, object], directory: Path
) -> Predictor:
    if processor.get("input") == "audio":
        from edgekit.runtime.generation.speech import SpeechPredictor

        return SpeechPredictor(session, manifest, directory)
    from edgekit.runtime.generation.predicting import GenerationPredictor

    return GenerationPredictor(session, manifest, directory)


def _static_shape(
    specs: Sequence[TensorSpec], processor: Mapping[str, object]
) -> tuple[int | None, int | None]:
    """Batch and sequence length where the graph fixes them."""
    names = processor.get("inputs")
    for spec in specs:
        if isinstance(names, list | tuple) and spec.name in names and len(spec.shape) == 2:
            batch, length = spec.shape
            return (
                batch if isinstance(batch, int) else None,
                length if isinstance(length, int) else None,
            )
    return None, None


def _check_inputs(specs: Sequence[TensorSpec], made: Sequence[str]) -> None:
    taken = {spec.name for spec in specs}
    if taken != set(made):
        raise BundleCorrupt(
            f"The graph takes {', '.join(sorted(taken))}; the processor makes"
            f" {', '.join(sorted(made))}.",
            hint="Export the bundle again.",
        )
