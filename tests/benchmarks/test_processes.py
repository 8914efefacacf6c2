"""Contenders in processes of their own: asked in turns, and left out where they do not start."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from benchmarks.processes import ContenderError, close, started, turns

CHILD = """\
import sys
from benchmarks.processes import serve

def make():
    print("loading")
    if sys.argv[2] == "broken":
        raise SystemExit(3)
    return lambda question: [sys.argv[2], question]

serve(make)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module whose children answer with their name and what they were asked."""
    (tmp_path / "contender_child.py").write_text(CHILD)
    roots = [str(tmp_path), str(Path(__file__).resolve().parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))
    return "contender_child"


def test_each_answers_in_its_turn(module: str) -> None:
    """What a library prints meanwhile does not reach the parent."""
    found = started(module, {"a": ("a",), "b": ("b",)}, 0, optional=())
    try:
        assert turns(found, random.Random(0), {"count": 2}) == {
            "a": ["a", {"count": 2}],
            "b": ["b", {"count": 2}],
        }
    finally:
        close(found)


def test_an_optional_one_is_left_out(module: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It is named on stderr with how it ended; one that must be there is an error."""
    found = started(module, {"a": ("a",), "b": ("broken",)}, 0, optional={"b"})
    close(found)
    assert list(found) == ["a"]
    assert "b is left out: it ended with exit code 3" in capfd.readouterr().err
    with pytest.raises(ContenderError, match="b: it ended with exit code 3"):
        started(module, {"b": ("broken",)}, 0, optional=())
