"""Whisper: sounds in, what is said in them out, in windows of half a minute."""

from __future__ import annotations

from edgekit.runtime.generation.speech.predicting import SpeechPredictor
from edgekit.runtime.generation.speech.rules import SpeechRules

__all__ = ["SpeechPredictor", "SpeechRules"]
