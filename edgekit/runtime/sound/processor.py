"""`SoundProcessor`: sounds as the feeds of a graph, equal to transformers' feature extractors."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt, InputMismatch
from edgekit.core.lazy import require
from edgekit.runtime.session import Array
from edgekit.runtime.sound.decoding import Recording, Samples, opened_sound, take
from edgekit.runtime.sound.features import Features
from edgekit.runtime.sound.rules import SoundRules, read_sound_rules

_LOGGER = logging.getLogger("edgekit")


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """One sound, or a piece of it, at the model's rate.

    ``left`` and ``right`` of its samples are heard for the sake of the others: neighbouring pieces
    answer them.
    """

    samples: Samples
    left: int = 0
    right: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Encoded:
    """A prepared piece: ``values`` are float32, without the batch axis, of so many samples."""

    values: NDArray[np.float32]
    samples: int
    left: int = 0
    right: int = 0


class SoundProcessor:
    """Turns sounds into the feeds of a graph. Safe to use from many threads at once.

    Args:
        processor: the manifest's processor, of kind ``audio``.
        size: the graph's number of samples where it is fixed: sounds are filled up to it.

    Raises:
        MissingDependency: soundfile is not installed.
        BundleCorrupt: a value is not what it should be.
        BundleVersion: the processor asks for something that this edgekit does not know.
    """

    def __init__(self, processor: Mapping[str, object], *, size: int | None = None) -> None:
        require("soundfile", "audio")
        rules = read_sound_rules(processor)
        if size is not None:
            if size < rules.shortest:
                raise BundleCorrupt(
                    f"The graph takes {size} samples; the shortest sound that the model takes has"
                    f" {rules.shortest}.",
                    hint=f"Export with --static samples={rules.shortest} or more.",
                )
            rules = replace(rules, longest=size)
        self.rules = rules
        self.size = size
        self._features = Features(rules)

    def hear(self, item: object) -> Piece:
        """One whole sound at the model's rate.

        What a model with a window of its own does not hear is left out, and said. Raises
        InputMismatch for what is no sound, too short, or longer than the model reads at once.
        """
        rules = self.rules
        most = rules.window or rules.longest
        with opened_sound(item, rules.sampling_rate) as recording:
            known = recording.samples
            if rules.window is None and known is not None and known > most:
                raise self._too_long(recording.name, known)
            samples = take(recording.blocks, most + 1)
            if len(samples) > most:
                if rules.window is None:
                    raise self._too_long(recording.name, known)
                _LOGGER.warning(
                    "%s is longer than the %.1f seconds that the model hears: the rest is left"
                    " out.",
                    recording.name, most / rules.sampling_rate,
                )  # fmt: skip
            self._refuse_short(samples, recording.name)
            return Piece(samples[:most])

    def hear_pieces(self, item: object, most: int, stride: int) -> Iterator[Piece]:
        """A sound of any length in pieces of `most` samples that share `stride` on either side.

        One that is no longer is a single piece. Raises InputMismatch for what is no sound, or too
        short.
        """
        with opened_sound(item, self.rules.sampling_rate) as recording:
            for place, piece in enumerate(_cut(recording, most, stride)):
                if place and len(piece.samples) < self.rules.shortest:
                    # What is left at the end is less than the model hears at all.
                    return
                self._refuse_short(piece.samples, recording.name)
                yield piece

    def encode(self, item: object) -> Encoded:
        """One whole sound prepared. Raises InputMismatch as `hear` does."""
        return self.prepare(self.hear(item))

    def prepare(self, piece: Piece) -> Encoded:
        """A sound as numbers; a graph of a fixed number of samples gets zeros behind them."""
        values = self._features(piece.samples)
        if self.size is not None:
            values = np.pad(values, (0, self.size - len(values)))
        return Encoded(values, len(piece.samples), piece.left, piece.right)

    def collate(self, encodings: Sequence[Encoded]) -> dict[str, Array]:
        """The feeds of prepared sounds, by input name.

        The values are float32 ``[batch, …]``; where the graph takes a mask it is int64 ``[batch,
        samples]``, 1 where there is sound. Waves of different lengths are filled up with zeros.
        """
        width = max(len(encoded.values) for encoded in encodings)
        first = encodings[0].values
        values = np.zeros((len(encodings), width, *first.shape[1:]), np.float32)
        for row, encoded in zip(values, encodings, strict=True):
            row[: len(encoded.values)] = encoded.values
        feeds: dict[str, Array] = {self.rules.inputs[0]: values}
        if len(self.rules.inputs) == 2:
            mask = np.zeros((len(encodings), width), np.int64)
            for row, encoded in zip(mask, encodings, strict=True):
                row[: encoded.samples] = 1
            feeds[self.rules.inputs[1]] = mask
        return feeds

    def _refuse_short(self, samples: Samples, name: str) -> None:
        rules = self.rules
        if len(samples) < rules.shortest:
            raise InputMismatch(
                f"{name} has {len(samples)} samples at {rules.sampling_rate:,} Hz; the model takes"
                f" at least {rules.shortest}.",
                hint="Give a longer sound.",
            )

    def _too_long(self, name: str, samples: int | None) -> InputMismatch:
        rate = self.rules.sampling_rate
        lasts = "longer than that" if samples is None else f"{samples / rate:,.1f} seconds long"
        return InputMismatch(
            f"The model reads up to {self.rules.longest / rate:,.1f} seconds at once; {name} is"
            f" {lasts}.",
            hint="Cut it into pieces, and ask for each of them.",
        )


def seconds_of(rules: SoundRules, feeds: Mapping[str, Array]) -> float:
    """How long the sounds of a batch may last on average: nothing but a mask tells padding."""
    values = feeds[rules.inputs[0]]
    if rules.window is not None:
        return rules.window / rules.sampling_rate
    if len(rules.inputs) == 2:
        return float(feeds[rules.inputs[1]].sum()) / len(values) / rules.sampling_rate
    return float(values.shape[1]) / rules.sampling_rate


def _cut(recording: Recording, most: int, stride: int) -> Iterator[Piece]:
    """Pieces of `most` samples, each of which knows what of it is a neighbour's.

    Each begins `most` − 2 × `stride` behind the one before, as transformers' pipeline cuts them.
    """
    held: list[Samples] = []
    count = left = 0
    for block in recording.blocks:
        held.append(block)
        count += len(block)
        if count <= most:
            continue
        whole = np.concatenate(held)
        # Only where more follows: the last piece has no neighbour on the right.
        while len(whole) > most:
            yield Piece(whole[:most], left, stride)
            whole = whole[most - 2 * stride :]
            left = stride
        # A copy, which does not keep the block alive.
        held, count = [whole.copy()], len(whole)
    yield Piece(np.concatenate(held), left)
