"""Runs both models on the same sounds, each with a processing of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.core.manifest import Manifest
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.metrics import Prediction
from edgekit.evaluation.numerics import add_outputs, larger, largest_gap
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.reference import Reference
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.sound.processor import Encoded, Piece
from edgekit.runtime.sound.reader import SoundReader
from edgekit.runtime.worker import not_finite
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


def run_sounds(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    problem: str | None = None,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both say to sounds: the bundle with its processor, the origin with transformers'.

    Decoding and resampling are the bundle's for both. A module of one's own has no processing but
    the declared one, which then prepares for both.

    Raises:
        ConfigError: a sound that cannot be read.
        InputMismatch: a model does not take the sounds.
    """
    reader = _reader(model.manifest)
    output = reader.task.outputs[0]
    if source.feature_extractor is None:
        notes.append("The reference has no sound processing of its own: the bundle's is used.")
    reference = Reference(source)
    pairs = Pairs([], [], [0.0] * len(samples))
    counted = Counted(progress, len(samples))
    for index, row in enumerate(samples.inputs):
        before: list[Array] = []
        after: list[Array] = []
        for piece in _heard(reader, row["audio"], index):
            encoded = reader.processor.prepare(piece)
            found = {name: array[:1] for name, array in model.run(reader.feeds([encoded])).items()}
            expected = reference.run(_theirs(source, reader, piece, encoded))
            add_outputs(pairs.distances, model.task, expected, found, problem=problem)
            if not_finite(found) is not None:
                pairs.broken.add(index)
            pairs.gaps[index] = larger(pairs.gaps[index], largest_gap(expected, found))
            before.append(reader.task.keep(expected[output][0], encoded))
            after.append(reader.task.keep(found[output][0], encoded))
        pairs.reference.append(_prediction(reader, before))
        pairs.candidate.append(_prediction(reader, after))
        counted.tell(f"Evaluated {index + 1:,} of {len(samples):,} sounds", index + 1)
    return pairs


def sound_batches(manifest: Manifest, samples: Samples, batch: int) -> Iterator[dict[str, Array]]:
    """The graph's inputs for `batch` sounds of the samples after the other, whole batches only.

    Of a sound that is read in pieces it is the first. Waves of a batch that has no mask are cut to
    the shortest of them. Raises ConfigError for a sound that cannot be read.
    """
    reader = _reader(manifest)
    masked = len(reader.processor.rules.inputs) == 2
    for start in range(0, len(samples) - batch + 1, batch):
        part = samples.inputs[start : start + batch]
        heard = [
            next(iter(_heard(reader, row["audio"], start + at))) for at, row in enumerate(part)
        ]
        if not masked:
            least = min(len(piece.samples) for piece in heard)
            heard = [Piece(piece.samples[:least]) for piece in heard]
        yield reader.feeds([reader.processor.prepare(piece) for piece in heard])


def _reader(manifest: Manifest) -> SoundReader:
    component = manifest.components["model"]
    return SoundReader(
        manifest.processor or {}, component.inputs, component.outputs, manifest.labels
    )


def _heard(reader: SoundReader, item: object, index: int) -> Iterator[Piece]:
    """The pieces of a sound of DATA. Raises ConfigError, naming it."""
    if not isinstance(item, Path):
        # Arrays of an .npz tell no rate: they are at the model's.
        item = (np.asarray(item, dtype=np.float32), reader.processor.rules.sampling_rate)
    try:
        yield from reader.hear(item)
    except InputMismatch as error:
        raise ConfigError(
            f"Sample {index + 1} of DATA cannot be read: {error.message}", hint=error.hint
        ) from error


def _theirs(
    source: LoadedSource, reader: SoundReader, piece: Piece, encoded: Encoded
) -> Mapping[str, Array]:
    """A piece as transformers prepares it, where the origin has its extractor."""
    extractor = source.feature_extractor
    if extractor is None:
        return reader.processor.collate([encoded])
    from edgekit.sources.sounds import MASK, extract

    options: dict[str, object] = {}
    masked = MASK in source.sample_inputs
    if reader.processor.size is not None:
        options = {"padding": "max_length", "max_length": reader.processor.size}
    if masked:
        options["return_attention_mask"] = True
    made = extract(extractor, [piece.samples], **options)
    if reader.processor.size is not None and not masked:
        # What is filled up counts as sound to transformers, as long as it has no mask.
        return reader.processor.collate([encoded])
    return {name: made[name] for name in source.sample_inputs}


def _prediction(reader: SoundReader, kept: Sequence[Array]) -> Prediction:
    """The text that was heard, or the scores of classes."""
    if reader.task.stride is not None:
        answer = reader.task.answer(kept, {})
        assert isinstance(answer, dict)
        return str(answer["text"])
    return np.ravel(np.asarray(kept[0], dtype=np.float64))
