"""What a call may ask of a generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.runtime.generation.options import Options, read_options, room
from tests.runtime.generation.conftest import CONTEXT, RULES


def read(defaults: Mapping[str, object] | None = None, **given: object) -> Options:
    """The options of a call to a model whose checkpoint has these."""
    rules = replace(RULES, defaults=defaults or {})  # type: ignore[arg-type]
    return read_options(given, rules, task="text-generation")


@pytest.mark.parametrize(
    "given",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"max_length": True},
        {"temperature": -1.0},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"num_beams": 0},
        {"num_beams": 10_000},
        {"num_beams": 2, "do_sample": True},
        {"early_stopping": "soon"},
        {"stop_strings": [""]},
        {"stop_strings": 3},
        {"seed": -1},
        {"do_sample": 1},
        {"tempreature": 1.0},
    ],
)
def test_wrong_options_are_told_with_their_value(given: dict[str, object]) -> None:
    """Each is a ConfigError that names the option."""
    with pytest.raises(ConfigError, match=next(iter(given))):
        read(**given)


def test_the_callers_words_come_before_the_checkpoints() -> None:
    """What nobody set is transformers' default, what the caller set is the caller's."""
    assert read() == Options(top_k=50)
    made = read({"do_sample": True, "temperature": 0.7, "max_length": 40}, temperature=0.2)
    assert (made.do_sample, made.temperature, made.max_length) == (True, 0.2, 40)
    made = read({"max_length": 40}, max_new_tokens=3)
    assert (made.max_new_tokens, made.max_length) == (3, None)


def test_a_temperature_asks_for_drawing() -> None:
    """Who gives one wants it to matter; do_sample=False says otherwise."""
    assert read(temperature=0.5).do_sample
    assert not read(temperature=0.5, do_sample=False).do_sample


@pytest.mark.parametrize(
    ("defaults", "given", "prompt", "expected"),
    [
        ({}, {}, 10, CONTEXT - 10),
        ({}, {"max_new_tokens": 5}, 10, 5),
        ({}, {"max_length": 15}, 10, 5),
        ({"max_new_tokens": 1000}, {}, 10, CONTEXT - 10),
        ({"max_length": 12}, {}, 10, 2),
    ],
)
def test_room(
    defaults: dict[str, object], given: dict[str, object], prompt: int, expected: int
) -> None:
    """An answer is as long as was asked, and as the context allows where nobody asked."""
    assert room(read(defaults, **given), RULES, prompt) == expected


@pytest.mark.parametrize(
    ("given", "prompt"),
    [({}, CONTEXT), ({"max_new_tokens": 20}, CONTEXT - 10), ({"max_length": 10}, 10)],
)
def test_beyond_the_context(given: dict[str, object], prompt: int) -> None:
    """A prompt that leaves no room, or less than was asked, is told with the numbers."""
    with pytest.raises(InputMismatch, match=str(prompt)):
        room(read(**given), RULES, prompt)


def test_no_context_no_limit() -> None:
    """T5 counts distances, not places."""
    assert room(Options(max_new_tokens=9999), replace(RULES, context=None), 10**6) == 9999
