"""Rows of like length run together."""

from __future__ import annotations

import random

import pytest

from edgekit.runtime.batching import plan_batches


@pytest.mark.parametrize("limit", [1, 3, 32])
def test_every_row_once(limit: int) -> None:
    """Whatever the lengths, each row is in one batch and no batch is too big."""
    lengths = random.Random(0).choices(range(1, 300), k=200)
    batches = plan_batches(lengths, limit)
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    assert max(map(len, batches)) <= limit


def test_padding_is_bounded() -> None:
    """No row is filled up by more than a quarter of the longest, or 16 tokens."""
    lengths = random.Random(1).choices(range(1, 500), k=300)
    for batch in plan_batches(lengths, 32):
        longest = max(lengths[index] for index in batch)
        assert all(longest - lengths[index] <= max(16, longest // 4) for index in batch)


def test_one_long_text_does_not_stretch_the_others() -> None:
    """Short texts beside a long one run without its padding."""
    assert plan_batches([5, 200, 6], 32) == [[1], [2, 0]]


def test_nothing_to_do() -> None:
    """No rows, no batches."""
    assert plan_batches([], 8) == []
