"""The part of a manifest's ``generation`` that only models of speech have, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from edgekit.core.errors import BundleCorrupt
from edgekit.runtime.fields import (
    document_of,
    flag,
    listed,
    number,
    numbers,
    only,
    optional,
    section,
    short,
    whole,
    word_of,
)

TASKS = ("transcribe", "translate")

_WHERE = "generation.speech"
_MOST = 1 << 31
_MOST_LISTED = 1 << 12
_MOST_FRAMES = 1 << 20


@dataclass(frozen=True)
class SpeechRules:
    """How Whisper is asked.

    ``start`` begins every prompt. ``languages`` are the tokens of languages by code (``en``),
    ``names`` their codes by name (``english``), ``tasks`` the tokens of what to do. A model with
    ``english_only`` knows neither. ``forced`` stands behind ``start`` where nobody asks for a
    language or a task; None in it is a language that is still to be found. ``language``, ``task``
    and ``timestamps`` are the checkpoint's own wishes.

    ``without_times`` is the token that asks for no marks of time; those are the tokens behind it,
    each ``precision`` seconds further than the one before, and the first of an answer is at most
    the one of number ``first_time``. ``special`` are the tokens that are no text.

    A window is ``window`` frames of features; a mark of time counts ``stride`` of them.
    """

    start: int
    window: int
    stride: int
    precision: float
    without_times: int | None = None
    first_time: int | None = None
    languages: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    english_only: bool = False
    forced: tuple[int | None, ...] = ()
    special: frozenset[int] = frozenset()
    language: str | None = None
    task: str | None = None
    timestamps: bool = False

    @classmethod
    def read(cls, value: Mapping[str, object]) -> SpeechRules:
        """The rules of a manifest's ``generation.speech``. Raises BundleVersion, BundleCorrupt."""
        only(value, _WHERE, tuple(item.name for item in fields(cls)))
        window = whole(value, "window", _WHERE, 1, _MOST_FRAMES)
        languages = _tokens(value, "languages")
        names = _section(value, "names")
        for name, code in names.items():
            if code not in languages:
                raise BundleCorrupt(
                    f"{_WHERE}.names calls {short(code)} {name!r}, which is none of its languages."
                )
        precision = number(value, "precision", _WHERE)
        if precision <= 0:
            raise BundleCorrupt(f"{_WHERE}.precision should be above 0, got {precision:g}.")
        language = value.get("language")
        if language is not None and language not in languages:
            raise BundleCorrupt(f"{_WHERE}.language is {short(language)}, none of its languages.")
        return cls(
            start=whole(value, "start", _WHERE, 0, _MOST),
            window=window,
            stride=whole(value, "stride", _WHERE, 1, window),
            precision=precision,
            without_times=_optional(value, "without_times"),
            first_time=_optional(value, "first_time"),
            languages=languages,
            names={name: str(code) for name, code in names.items()},
            tasks=_tokens(value, "tasks"),
            english_only=flag(value, "english_only", _WHERE),
            forced=tuple(
                None if item is None else whole({"forced": item}, "forced", _WHERE, 0, _MOST)
                for item in listed(value, "forced", _WHERE, _MOST_LISTED)
            ),
            special=frozenset(numbers(value, "special", _WHERE, _MOST, _MOST_LISTED)),
            language=None if language is None else str(language),
            task=None
            if value.get("task") is None
            else word_of(value, "task", TASKS, TASKS[0], _WHERE),
            timestamps=flag(value, "timestamps", _WHERE),
        )

    def document(self) -> dict[str, object]:
        """The JSON form, which `read` reads."""
        return document_of(self)

    @property
    def first_mark(self) -> int | None:
        """The token of the beginning of a window; every one behind it is a mark of time, too."""
        return None if self.without_times is None else self.without_times + 1

    def name_of(self, code: str) -> str:
        """A language's name, or its code where it has none."""
        return next((name for name, found in self.names.items() if found == code), code)


def _optional(value: Mapping[str, object], key: str) -> int | None:
    return optional(value, key, _WHERE, 0, _MOST)


def _tokens(value: Mapping[str, object], key: str) -> dict[str, int]:
    found = _section(value, key)
    return {name: whole(found, name, f"{_WHERE}.{key}", 0, _MOST) for name in found}


def _section(value: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = section(value, key, _WHERE) or {}
    if len(found) > _MOST_LISTED:
        raise BundleCorrupt(f"{_WHERE}.{key} has {len(found):,} entries, at most {_MOST_LISTED:,}.")
    return found
