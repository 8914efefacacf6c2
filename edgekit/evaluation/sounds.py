"""Runs both models on the same sounds, each with a processing of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.manifest import Manifest
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.metrics import Prediction
from edgekit.evaluation.naming import asking, reading
from edgekit.evaluation.numerics import add_outputs, larger, largest_gap
from edgekit.evaluation.pairs import Pairs, comparable
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

    Decoding and resampling are the bundle's for both, and so is the rest for a reference that has
    no extractor. Outputs are compared on equal feeds. Where the graph has a fixed size the
    predictions are not: the reference hears a sound as long as it is, in pieces of its own length,
    so that what filling up and cutting cost is part of the verdict.

    Raises:
        ConfigError: a sound that cannot be read.
        InputMismatch: a model does not take the sounds.
    """
    reader = _reader(model.manifest)
    free = _unfixed(model.manifest, reader)
    if source.feature_extractor is None:
        notes.append("The reference has no sound processing of its own: the bundle's is used.")
    if free is not None:
        notes.append(_told_size(reader))
    reference = Reference(source)
    output = reader.task.outputs[0]
    pairs = Pairs([], [], [0.0] * len(samples))
    counted = Counted(progress, len(samples))
    for index in range(len(samples)):
        before: list[Array] = []
        after: list[Array] = []
        with asking(samples, [index]):
            for piece in _heard(reader, samples, index):
                encoded = reader.processor.prepare(piece)
                found = {
                    name: array[:1] for name, array in model.run(reader.feeds([encoded])).items()
                }
                expected = reference.run(_theirs(source, reader, piece, encoded))
                add_outputs(pairs.distances, model.task, expected, found, problem=problem)
                alike = comparable(found, expected)
                if not_finite(alike) is not None:
                    pairs.broken.add(index)
                pairs.gaps[index] = larger(pairs.gaps[index], largest_gap(expected, alike))
                if free is None:
                    before.append(reader.task.keep(expected[output][0], encoded))
                after.append(reader.task.keep(alike[output][0], encoded))
            if free is not None:
                for piece in _heard(free, samples, index):
                    encoded = free.processor.prepare(piece)
                    expected = reference.run(_theirs(source, free, piece, encoded))
                    before.append(free.task.keep(expected[output][0], encoded))
        pairs.reference.append(_prediction(reader, before))
        pairs.candidate.append(_prediction(reader, after))
        counted.tell(f"Evaluated {index + 1:,} of {len(samples):,} sounds", index + 1)
    return pairs


def sound_batches(
    manifest: Manifest, samples: Samples, batch: int
) -> Iterator[tuple[dict[str, Array], float]]:
    """The graph's inputs for `batch` sounds of the samples after the other, whole batches only.

    With each how many seconds of sound it holds on average, what fills it up left out. Of a sound
    that is read in pieces it is the first. Waves of a batch that has no mask are cut to the
    shortest of them. Raises ConfigError for a sound that cannot be read.
    """
    reader = _reader(manifest)
    rules = reader.processor.rules
    for start in range(0, len(samples) - batch + 1, batch):
        heard = [
            next(iter(_heard(reader, samples, index))) for index in range(start, start + batch)
        ]
        if len(rules.inputs) < 2:
            least = min(len(piece.samples) for piece in heard)
            heard = [Piece(piece.samples[:least]) for piece in heard]
        prepared = [reader.processor.prepare(piece) for piece in heard]
        seconds = sum(one.samples for one in prepared) / len(prepared) / rules.sampling_rate
        yield reader.feeds(prepared), seconds


def _reader(manifest: Manifest) -> SoundReader:
    component = manifest.components["model"]
    return SoundReader(
        manifest.processor or {}, component.inputs, component.outputs, manifest.labels
    )


def _unfixed(manifest: Manifest, reader: SoundReader) -> SoundReader | None:
    """How the origin reads sounds where the bundle's graph takes so many samples and no others.

    None where the graph takes any number: then both hear the same.
    """
    if reader.processor.size is None:
        return None
    component = manifest.components["model"]
    inputs = tuple(
        replace(spec, shape=(spec.shape[0], "samples", *spec.shape[2:]))
        for spec in component.inputs
    )
    # What the graph takes at once the origin takes, too.
    own = reader.processor.rules.longest
    longest = (manifest.processor or {}).get("longest")
    longest = max(own, longest) if isinstance(longest, int) else own
    processor = {**(manifest.processor or {}), "longest": longest}
    return SoundReader(processor, inputs, component.outputs, manifest.labels)


def _told_size(reader: SoundReader) -> str:
    """What a fixed size costs, as a sentence."""
    rules = reader.processor.rules
    size = (reader.processor.size or 0) / rules.sampling_rate
    filled = "" if len(rules.inputs) == 2 else " and hears what fills it up, for it has no mask"
    return (
        f"The graph takes {size:g} seconds{filled}; the reference hears sounds as long as they"
        " are. Outputs are compared on equal inputs."
    )


def sound_of(item: object, rate: int) -> object:
    """A sound of DATA as the runtime takes it: arrays of an .npz are at the model's rate."""
    return item if isinstance(item, Path) else (item, rate)


def _heard(reader: SoundReader, samples: Samples, index: int) -> Iterator[Piece]:
    """The pieces of a sound of DATA. Raises ConfigError, naming its row."""
    item = sound_of(samples.inputs[index]["audio"], reader.processor.rules.sampling_rate)
    with reading(samples, index):
        yield from reader.hear(item)


def _theirs(
    source: LoadedSource, reader: SoundReader, piece: Piece, encoded: Encoded
) -> Mapping[str, Array]:
    """A piece as transformers prepares it, where the origin has its extractor."""
    extractor = source.feature_extractor
    if extractor is None:
        return reader.processor.collate([encoded])
    from edgekit.sources.sounds import MASK, extract

    size = reader.processor.size
    masked = MASK in source.sample_inputs
    if size is not None and not masked:
        # What is filled up counts as sound to transformers, as long as it has no mask.
        return reader.processor.collate([encoded])
    options: dict[str, object] = {}
    if size is not None:
        options = {"padding": "max_length", "max_length": size}
    if masked:
        options["return_attention_mask"] = True
    made = extract(extractor, [piece.samples], **options)
    return {name: made[name] for name in source.sample_inputs}


def _prediction(reader: SoundReader, kept: Sequence[Array]) -> Prediction:
    """The text that was heard, or the scores of classes."""
    if reader.task.stride is not None:
        answer = reader.task.answer(kept, {})
        assert isinstance(answer, dict)
        return str(answer["text"])
    return np.ravel(np.asarray(kept[0], dtype=np.float64))
