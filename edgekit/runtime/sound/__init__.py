"""Sounds in, tensors out: decoding, resampling and features, with soundfile, soxr and numpy."""

from __future__ import annotations

from edgekit.runtime.sound.decoding import opened_sound, read_sound
from edgekit.runtime.sound.processor import Encoded, SoundProcessor
from edgekit.runtime.sound.rules import SoundRules, read_sound_rules

__all__ = [
    "Encoded",
    "SoundProcessor",
    "SoundRules",
    "opened_sound",
    "read_sound",
    "read_sound_rules",
]
