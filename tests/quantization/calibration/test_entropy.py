"""The threshold by divergence, against the published algorithm written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.quantization.calibration.entropy import divergences, entropy_threshold
from tests.quantization.calibration.numbers import batches, statistics_of


def written_out(counts: list[int], kept: int, levels: int) -> float:
    """The divergence of cutting behind `kept` bins, step by step as on NVIDIA's slides."""
    reference = [float(count) for count in counts[:kept]]
    reference[-1] += sum(counts[kept:])
    candidate = [0.0] * kept
    for level in range(levels):
        inside = range(kept * level // levels, kept * (level + 1) // levels)
        filled = [i for i in inside if counts[i]]
        for i in filled:
            candidate[i] = sum(counts[j] for j in inside) / len(filled)
    p = [x / sum(reference) for x in reference]
    q = [x / sum(candidate) for x in candidate]
    total = 0.0
    for x, y in zip(p, q, strict=True):
        if x > 0:
            total += x * math.log(x / y) if y > 0 else math.inf
    return total


@pytest.mark.parametrize("seed", range(4))
def test_the_algorithm_as_published(seed: int) -> None:
    """All divergences of a histogram with gaps and a tail."""
    random = np.random.default_rng(seed)
    counts = np.bincount(np.abs(random.normal(size=3000) * 30).astype(int), minlength=150)
    counts[random.integers(0, len(counts), 10)] = 0
    found = divergences(counts, 16)
    expected = [written_out(counts.tolist(), kept, 16) for kept in range(16, len(counts) + 1)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_least_divergence() -> None:
    """On all 2,048 bins and more, of which the threshold is half a bin behind the last one kept."""
    histogram = statistics_of(batches("normal", count=100)).histogram
    counts = histogram.magnitudes()
    assert 2048 <= len(counts) <= 4096
    found = round(entropy_threshold(histogram, 128) / histogram.width - 0.5)
    best = written_out(counts.tolist(), found, 128)
    for kept in (128, 300, len(counts) // 2, len(counts) - 1, len(counts)):
        assert best <= written_out(counts.tolist(), kept, 128) + 1e-12


def test_few_bins() -> None:
    """With as many levels as bins nothing has to be cut off."""
    histogram = statistics_of([np.full(10, 0.7, dtype=np.float32)]).histogram
    assert entropy_threshold(histogram, 1 << 23) >= 0.7


def test_zeros_have_no_say() -> None:
    """Any number of them leaves the threshold where it is."""
    parts = batches("relu", count=50)
    more = [*parts, np.zeros((500, 64), dtype=np.float32)]
    one, other = (entropy_threshold(statistics_of(some).histogram, 256) for some in (parts, more))
    assert one == other
