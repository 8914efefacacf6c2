"""What is kept of a tensor, against numpy on the whole of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quantization.calibration.statistics import Accumulator
from tests.quantization.calibration.numbers import batches, statistics_of, whole

KINDS = ("normal", "outliers", "relu", "gelu", "shifted", "growing")


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_exact(kind: str) -> None:
    """The least, the greatest and the number of all numbers."""
    parts = batches(kind)
    found, x = statistics_of(parts), whole(parts)
    assert (found.low, found.high, found.count) == (x.min(), x.max(), x.size)
    assert found.greatest == np.abs(x).max()


def test_averages_follow_the_batches() -> None:
    """Each new batch moves them by a hundredth of the way."""
    parts = batches("normal", count=50)
    found = statistics_of(parts)
    low, high = float(parts[0].min()), float(parts[0].max())
    for part in parts[1:]:
        low += (float(part.min()) - low) * 0.01
        high += (float(part.max()) - high) * 0.01
    assert found.average_low == pytest.approx(low, rel=1e-12)
    assert found.average_high == pytest.approx(high, rel=1e-12)


@pytest.mark.parametrize(("axis", "shapes"), [
    (-1, [(2, 5, 8), (1, 3, 8)]), (1, [(2, 8, 5, 4), (1, 8, 3, 3)]), (0, [(8,), (8,)]),
])  # fmt: skip
def test_channels(axis: int, shapes: list[tuple[int, ...]]) -> None:
    """Along any axis, over ragged batches."""
    random = np.random.default_rng(1)
    parts = [random.normal(2, size=shape).astype(np.float32) for shape in shapes]
    found = statistics_of(parts, axis).channels
    assert found is not None
    rows = np.concatenate([np.moveaxis(part, axis, -1).reshape(-1, 8) for part in parts])
    np.testing.assert_array_equal(found.greatest, np.abs(rows).max(axis=0))
    np.testing.assert_allclose(found.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-12)
    expected = (rows.astype(np.float64) ** 2).mean(axis=0)
    np.testing.assert_allclose(found.mean_square, expected, rtol=1e-6)


def test_channels_are_counted_when_asked() -> None:
    """Otherwise there are none."""
    assert statistics_of(batches("normal")).channels is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_counted(bad: float) -> None:
    """The batch that holds it leaves nothing behind."""
    accumulator = Accumulator(-1)
    assert accumulator.add(np.ones((2, 4), dtype=np.float32))
    assert not accumulator.add(np.array([[1, bad, 5, 6]], dtype=np.float32))
    found = accumulator.result()
    assert found is not None
    assert found.channels is not None
    assert (found.count, found.high, found.channels.greatest.max()) == (8, 1, 1)


def test_empty_batches() -> None:
    """They are seen and change nothing; nothing but them is no statistics."""
    accumulator = Accumulator()
    assert accumulator.add(np.zeros((0, 4), dtype=np.float32))
    assert accumulator.result() is None


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_widths(dtype: type[np.floating]) -> None:
    """Halves and doubles are counted as singles."""
    found = statistics_of([np.array([[-1.5, 0.25]], dtype=dtype)])
    assert (found.low, found.high) == (-1.5, 0.25)


def test_another_number_of_channels() -> None:
    """Channels are the same ones in all batches."""
    accumulator = Accumulator(-1)
    assert accumulator.add(np.ones((2, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="5 channels after 4"):
        accumulator.add(np.ones((2, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="1 axes"):
        Accumulator(1).add(np.ones(3, dtype=np.float32))
