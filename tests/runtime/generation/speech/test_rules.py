"""The manifest's part on speech: written, read, and refused where a value is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.core.errors import BundleCorrupt, BundleVersion, ConfigError
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.generation.speech.options import read_asked
from edgekit.runtime.generation.speech.rules import SpeechRules

SPEECH = SpeechRules(
    start=50, window=3000, stride=2, precision=0.02, without_times=60, first_time=0,
    languages={"en": 51, "de": 52}, names={"english": "en", "german": "de"},
    tasks={"transcribe": 58, "translate": 57}, special=frozenset({49, 50}),
)  # fmt: skip
RULES = GenerationRules(mode="speech", layers=2, context=448, eos=(49,), pad=49, speech={})


def test_what_is_written_is_read() -> None:
    """All of it, and the little that must be there."""
    assert SpeechRules.read(SPEECH.document()) == SPEECH
    least = SpeechRules(start=0, window=200, stride=2, precision=0.02, english_only=True)
    assert SpeechRules.read(least.document()) == least
    forced = SpeechRules(start=1, window=200, stride=2, precision=0.02, forced=(None, 4))
    assert SpeechRules.read(forced.document()) == forced


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"more": 1}, BundleVersion, "more"),
        ({"task": "sing"}, BundleVersion, "sing"),
        ({"window": 0}, BundleCorrupt, "window"),
        ({"stride": 3001}, BundleCorrupt, "stride"),
        ({"precision": 0.0}, BundleCorrupt, "above 0"),
        ({"languages": {"en": -1}}, BundleCorrupt, "languages"),
        ({"names": {"french": "fr"}}, BundleCorrupt, "none of its languages"),
        ({"language": "fr"}, BundleCorrupt, "none of its languages"),
        ({"special": 3}, BundleCorrupt, "special"),
        ({"forced": ["a"]}, BundleCorrupt, "forced"),
    ],
)
def test_wrong_rules_are_refused(
    changed: dict[str, Any], error: type[Exception], told: str
) -> None:
    """Unknown words are another version's, wrong values are broken."""
    with pytest.raises(error, match=told):
        SpeechRules.read({**SPEECH.document(), **changed})


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ({}, (50, None)),
        ({"language": "de"}, (50, 52, 58)),
        ({"language": " German "}, (50, 52, 58)),
        ({"language": "<|en|>", "task": "translate"}, (50, 51, 57)),
        ({"task": "transcribe"}, (50, None, 58)),
        ({"generate_kwargs": {"language": "en"}}, (50, 51, 58)),
    ],
)
def test_prompts(given: dict[str, Any], prompt: tuple[int | None, ...]) -> None:
    """What stands before an answer follows from language and task."""
    assert read_asked(given, RULES, SPEECH, "speech").prompt == prompt


def test_a_checkpoint_may_force_its_prompt() -> None:
    """Unless somebody asks for a language or a task."""
    forced = SpeechRules(**{**vars(SPEECH), "forced": (None, 57)})
    assert read_asked({}, RULES, forced, "speech").prompt == (50, None, 57)
    assert read_asked({"language": "en"}, RULES, forced, "speech").prompt == (50, 51, 58)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"language": "englisch"}, "no language 'englisch'"),
        ({"language": 1}, "a code or a name"),
        ({"task": "speak"}, "'transcribe' or 'translate'"),
        ({"return_timestamps": "word"}, "True or False"),
        ({"no_speech_threshold": 2.0, "logprob_threshold": -1.0}, "from 0 to 1"),
        ({"no_speech_threshold": 0.5, "logprob_threshold": 1.0}, "at most 0"),
        ({"no_speech_threshold": 0.5, "logprob_threshold": -1.0, "num_beams": 2}, "beams"),
        ({"logprob_threshold": -1.0}, "go together"),
        ({"generate_kwargs": 3}, "a dict"),
        ({"stride_length_s": 3}, "no option"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], told: str) -> None:
    """With the value, and what to do."""
    with pytest.raises(ConfigError, match=told):
        read_asked(given, RULES, SPEECH, "speech")
