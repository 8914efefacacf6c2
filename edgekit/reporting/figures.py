"""What stands on top of a report: the verdict, its sentence, and the figures it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "open", "plain"]


@dataclass(frozen=True)
class KeyFigure:
    """One number that a reader takes along."""

    label: str
    value: str
    detail: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Headline:
    """The verdict, the sentence under it, what was missed, and the figures it rests on."""

    badge: str
    tone: Tone
    title: str
    sentence: str
    reasons: tuple[str, ...]
    figures: tuple[KeyFigure, ...]
