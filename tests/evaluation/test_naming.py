"""Errors about samples, with the rows of DATA that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from edgekit.core.errors import ConfigError, InputMismatch, SessionError
from edgekit.evaluation.naming import answered, asking, reading
from tests.evaluation.generation.conftest import samples_of

# As after a choice by their role: the places in DATA are others than those among the samples.
SAMPLES = replace(
    samples_of("text2text-generation", "source", ["a", "b", "c", "d"]), rows=(3, 7, 20, 41)
)


def test_the_row_that_is_refused_is_named() -> None:
    """Of several that are asked at once each is asked by itself, until one is refused again."""
    asked: list[list[int]] = []

    def ask(part: Sequence[int]) -> list[str]:
        asked.append(list(part))
        if 2 in part:
            raise InputMismatch("It is too loud.", hint="Turn it down.")
        return ["well"] * len(part)

    assert answered(SAMPLES, [0, 1], ask) == ["well", "well"]
    with pytest.raises(InputMismatch, match="Row 20 of DATA cannot be judged: It is too") as caught:
        answered(SAMPLES, [0, 1, 2, 3], ask)
    assert caught.value.hint == "Turn it down."
    assert asked == [[0, 1], [0, 1, 2, 3], [0], [1], [2]]


def test_rows_that_are_refused_together_are_all_named() -> None:
    """Where each by itself is answered; the kind of the error stays."""

    def ask(part: Sequence[int]) -> int:
        if len(part) > 1:
            raise SessionError("Out of memory.")
        return len(part)

    with pytest.raises(SessionError, match="One of the rows 3, 41 of DATA cannot be judged") as one:
        answered(SAMPLES, [3, 0], ask)
    assert type(one.value) is SessionError


def test_what_is_no_sample_is_the_datas_fault() -> None:
    """Others than the reader's own errors are left alone."""
    with (
        pytest.raises(ConfigError, match="Row 7 of DATA cannot be read: no text"),
        reading(SAMPLES, 1),
    ):
        raise InputMismatch("no text")
    with pytest.raises(ConfigError, match=r"^other$"), asking(SAMPLES, [1]):
        raise ConfigError("other")
