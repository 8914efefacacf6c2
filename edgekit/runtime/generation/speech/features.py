"""Features of sounds that are longer than a window: of all of it at once, in bounded memory.

Whisper clamps and scales by the loudest moment of a sound, so that it has to be heard wholly
before its first window can be read. What is kept of it are its features, a fifth of its samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputMismatch
from edgekit.runtime.sound.decoding import Samples
from edgekit.runtime.sound.features import hann_window, log_mel, mel_filters
from edgekit.runtime.sound.rules import MOST_NUMBERS, Clamp, LogMel, Normalize, SoundRules

Features = NDArray[np.float32]


def long_features(blocks: Iterable[Samples], rules: SoundRules, name: str) -> Features:
    """``[bins, frames]`` of blocks of samples, nothing cut off and nothing filled up.

    Raises InputMismatch for a sound of which nobody could hold the features.
    """
    mel = rules.log_mel
    assert mel is not None
    kept = []
    count = 0
    for part in _spectra(blocks, mel, rules.sampling_rate):
        kept.append(part)
        count += part.size
        if count > MOST_NUMBERS:
            hours = MOST_NUMBERS // mel.bins * mel.hop / rules.sampling_rate / 3600
            raise InputMismatch(
                f"{name} is longer than {hours:.1f} hours, the most that is read at once.",
                hint="Cut it into pieces, and ask for each of them.",
            )
    made = np.concatenate(kept, axis=1)
    # The frame at the very end belongs to what comes after it.
    made = made[:, :-1] if mel.drop_last else made
    for op in rules.ops:
        if isinstance(op, Clamp):
            np.maximum(made, made.max() - np.float32(op.below), out=made)
        elif isinstance(op, Normalize):
            made -= np.float32(op.mean)
            made /= np.float32(op.std)
    return made


def window_of(features: Features, start: int, frames: int) -> Features:
    """So many frames from one on; behind the end of the sound there are zeros."""
    piece = features[:, start : start + frames]
    missing = frames - piece.shape[1]
    return np.pad(piece, ((0, 0), (0, missing))) if missing else piece


def _spectra(blocks: Iterable[Samples], mel: LogMel, rate: int) -> Iterator[Features]:
    """The logarithmic spectra of all frames, some at a time, the sides of the sound reflected."""
    filters, window = mel_filters(mel, rate), hann_window(mel)
    side = mel.frame // 2 if mel.center else 0
    bare = replace(mel, center=False, drop_last=False, layout="bins-first")

    def made(wave: Samples) -> Features:
        return np.asarray(log_mel(wave, bare, filters, window), dtype=np.float32)

    held = np.zeros(0, np.float32)
    begun = not side
    for block in blocks:
        held = np.concatenate([held, block])
        if not begun and len(held) > side:
            held = np.concatenate([held[side:0:-1], held])
            begun = True
        # One frame and a side stay, to reflect the end.
        count = bare.count(len(held) - side) if begun else 0
        if count > 1:
            yield made(held[: (count - 1) * mel.hop + mel.frame])
            held = held[count * mel.hop :]
    if side:
        held = np.concatenate([held, held[-2 : -side - 2 : -1]])
    if bare.count(len(held)):
        yield made(held)
