"""The original of models that generate: asked once, whoever is judged by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.errors import InputMismatch
from edgekit.evaluation.accuracy import evaluate
from edgekit.evaluation.generation.original import Original
from edgekit.runtime import load
from tests.evaluation.generation.conftest import samples_of, twin_source

TEXTS = samples_of("text-generation", "text", [f"the river is {'wide ' * at}" for at in range(12)])


def test_several_bundles_are_judged_by_one_reading(decoder: Path) -> None:
    """The original reads each batch once, and says to the next bundle what it said to the first."""
    source = twin_source(decoder, heat=1.2)
    original, calls = Original(source), source.module.model.calls
    found, counts = [], []
    for engine in ("onnxruntime", "onnxruntime", "openvino"):
        with load(decoder, engine=engine, threads=1) as model:
            found.append(evaluate(model, source, TEXTS, original=original))
        counts.append(len(calls))
    assert counts[0] == counts[1] == counts[2]
    assert len({one.accuracy.reference for one in found}) == 1
    assert found[0].accuracy == found[1].accuracy
    assert found[2].accuracy.candidate == pytest.approx(found[0].accuracy.candidate, rel=1e-4)
    # Whole distributions are compared while both read: to keep them would fill the memory.
    assert [list(one.numerics) for one in found] == [["logits"], [], []]


def test_threads_are_chosen_once(decoder: Path) -> None:
    """By the first question, whatever is asked after it."""
    original = Original(twin_source(decoder))
    tried: list[Any] = []
    for _ in range(3):
        with original.asked("a text", tried.append) as model:
            assert model is original.source.module.model
    # One or all threads, the first of them once more.
    assert len(tried) in (2, 3)


def test_only_what_is_new_is_asked(decoder: Path) -> None:
    """Answers come in the order of the questions."""
    original = Original(twin_source(decoder))
    asked: list[str] = []

    def shout(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return [text.upper() for text in texts]

    assert original.each(["1", "2"], ["a", "b"], shout) == ["A", "B"]
    assert original.each(["3", "1", "4"], ["c", "a", "d"], shout) == ["C", "A", "D"]
    assert original.each(["2", "4"], ["b", "d"], shout) == ["B", "D"]
    assert asked == ["a", "b", "c", "d"]


def test_what_it_refuses_is_told(decoder: Path) -> None:
    """In words, as no bug of ours; and what was broken off is not remembered."""
    original = Original(twin_source(decoder))

    def refuse() -> Any:
        with original.asked("2 texts", lambda model: None):
            raise RuntimeError("shapes do not fit")
        yield

    with pytest.raises(InputMismatch, match=r"twin does not read 2 texts: shapes do not fit\."):
        list(original.parts("key", refuse(), list))
    assert list(original.parts("key", [[1], [2]], lambda part: [])) == [[1], [2]]
    assert list(original.parts("key", refuse(), list)) == [[], []]
