"""A reference that keeps its answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.evaluation.remembering import remembering
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source

SOURCE = """
import torch


class Doubled(torch.nn.Module):
    def forward(self, x):
        return {"y": 2 * x}


def make():
    return Doubled(), {"x": torch.ones(2, 3)}
"""


class Counting(nn.Module):
    """Doubles, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Twice the input."""
        self.calls += 1
        return {"y": 2 * x}


@pytest.fixture
def source(tmp_path: Path) -> LoadedSource:
    """A loaded source, to be given another module."""
    (tmp_path / "doubled.py").write_text(SOURCE)
    return open_source(f"{tmp_path}/doubled.py:make", task="custom", trust_remote_code=True)


def with_module(source: LoadedSource, most_bytes: int) -> tuple[Counting, nn.Module]:
    """(what is asked in the end, what remembers for it)."""
    inner = Counting()
    kept = remembering(replace(source, module=inner), most_bytes=most_bytes)
    return inner, kept.module


def test_same_question_is_asked_once(source: LoadedSource) -> None:
    """A later answer is the first, also for another tensor that holds the same."""
    inner, module = with_module(source, 1000)
    x = torch.arange(6.0).reshape(2, 3)
    first = module(x=x)
    module(x=x + 1)
    again = module(x=x.clone())
    assert inner.calls == 2
    assert torch.equal(first["y"], 2 * x)
    assert again["y"] is first["y"]


def test_twice_in_a_row_is_computed_twice(source: LoadedSource) -> None:
    """So is timed how many threads are best: an answer from memory would say nothing."""
    inner, module = with_module(source, 1000)
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(module(x=x)["y"], module(x=x)["y"])
    assert inner.calls == 2


@pytest.mark.parametrize(
    "other",
    [
        torch.arange(6.0).reshape(3, 2),
        torch.arange(6.0).reshape(2, 3) + 1,
        torch.arange(6, dtype=torch.int32).reshape(2, 3),
        # The same values as a view with other strides, transposed.
        torch.arange(6.0).reshape(3, 2).T,
    ],
)
def test_other_questions_are_asked(source: LoadedSource, other: Tensor) -> None:
    """Shape, type and values all count."""
    inner, module = with_module(source, 1000)
    module(x=torch.arange(6.0).reshape(2, 3))
    assert torch.equal(module(x=other)["y"], 2 * other)
    assert inner.calls == 2


def test_memory_is_bounded(source: LoadedSource) -> None:
    """Beyond its bytes it computes again; what it has stays."""
    inner, module = with_module(source, 24)
    one, two = torch.ones(2, 3), torch.zeros(2, 3)
    for x in (one, two, one, two):
        assert torch.equal(module(x=x)["y"], 2 * x)
    assert inner.calls == 3


def test_everything_else_is_the_sources(source: LoadedSource) -> None:
    """The hash of its weights above all: it is the same original."""
    kept = remembering(source)
    assert (kept.sha256, kept.id, kept.task) == (source.sha256, source.id, source.task)
    assert kept.module is not source.module
