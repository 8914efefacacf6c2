"""Histograms that grow with what they are given."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quantization.calibration.histogram import BINS
from tests.quantization.calibration.numbers import batches, statistics_of, whole

KINDS = ("normal", "outliers", "relu", "gelu", "shifted", "growing")


@pytest.mark.parametrize("kind", KINDS)
def test_the_counts_of_whole_data(kind: str) -> None:
    """What a histogram of all numbers at once has in the same bins."""
    parts = batches(kind)
    found = statistics_of(parts).histogram
    expected = np.bincount(np.floor(whole(parts) / found.width).astype(int) - found.first)
    np.testing.assert_array_equal(found.counts, expected)
    assert found.counts[0]
    assert found.counts[-1]
    assert found.zeros == (whole(parts) == 0).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_does_not_matter(kind: str) -> None:
    """However often the bins were merged, they are the same in the end."""
    parts = batches(kind)
    one, other = (statistics_of(some).histogram for some in (parts, parts[::-1]))
    assert (one.width, one.first, one.zeros) == (other.width, other.first, other.zeros)
    np.testing.assert_array_equal(one.counts, other.counts)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "shifted"])
def test_the_bins_are_many(kind: str) -> None:
    """More than half of them are in use, and at least 2,048 by magnitude."""
    found = statistics_of(batches(kind)).histogram
    assert BINS / 2 <= len(found.counts) <= BINS
    assert len(found.magnitudes()) >= 2048


@pytest.mark.parametrize("kind", KINDS)
def test_magnitudes(kind: str) -> None:
    """The histogram of absolute values, which the bins below zero are folded into."""
    parts = batches(kind)
    found = statistics_of(parts).histogram
    indices = np.floor(np.abs(whole(parts)) / found.width).astype(int)
    expected = np.bincount(indices, minlength=len(found.magnitudes()))
    # A number on the very edge of a bin changes sides with its sign.
    edge = (np.abs(whole(parts)) % found.width == 0).sum() - found.zeros
    assert np.abs(expected - found.magnitudes()).sum() <= 2 * edge
    assert found.magnitudes().sum() == len(whole(parts))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-30, -3e38, 1e6])
def test_one_number_only(value: float) -> None:
    """A constant tensor is one bin that holds it."""
    found = statistics_of([np.full((2, 3), value, dtype=np.float32)]).histogram
    assert found.counts.tolist() == [6]
    assert found.edges[0] <= np.float32(value) < found.edges[1]


def test_far_apart() -> None:
    """From the smallest to the largest numbers there are, in either order."""
    small, large = (np.array([x], dtype=np.float32) for x in (-1e-30, 3e38))
    for parts in ([small, large], [large, small]):
        found = statistics_of(parts).histogram
        assert found.counts.sum() == 2
        assert len(found.counts) <= BINS


def test_memory_is_that_of_the_bins() -> None:
    """A thousand times the numbers take no more of it."""
    parts = batches("growing", count=30)
    assert statistics_of(parts).histogram.counts.nbytes <= BINS * 8
    assert statistics_of(parts).histogram.counts.base is None
