"""Calibrators: ranges from statistics."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from edgekit.quantization.calibration import TensorRange, find_range
from edgekit.quantization.calibration.ranges import CALIBRATORS
from edgekit.quantization.calibration.squared import expected_error
from edgekit.quantization.recipes import Calibrator
from tests.quantization.calibration.numbers import batches, statistics_of, whole

KINDS = ("normal", "outliers", "relu", "gelu", "shifted")
NAMES: tuple[Calibrator, ...] = get_args(Calibrator)


def test_all_calibrators_are_there() -> None:
    """Those that a recipe can name."""
    assert set(CALIBRATORS) == set(NAMES)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [*KINDS, "growing"])
def test_zero_is_within(kind: str, name: Calibrator, symmetric: bool) -> None:
    """And nothing beyond what was seen, except where both sides are the same."""
    statistics = statistics_of(batches(kind))
    found = find_range(statistics, name, symmetric=symmetric)
    assert found.low <= 0 <= found.high
    assert found.low < found.high
    if symmetric:
        assert found.low == -found.high
        assert found.high <= statistics.greatest
    else:
        assert found.low >= min(statistics.low, 0)
        assert found.high <= max(statistics.high, 0)


@pytest.mark.parametrize("name", NAMES)
def test_zeros_have_an_empty_range(name: Calibrator) -> None:
    """And nothing fails."""
    statistics = statistics_of([np.zeros((3, 4), dtype=np.float32)])
    assert find_range(statistics, name) == TensorRange(0, 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [4.25, -0.1])
def test_a_constant_is_kept(name: Calibrator, value: float) -> None:
    """The range ends at it, or a little before."""
    statistics = statistics_of([np.full((3, 4), value, dtype=np.float32)])
    found = find_range(statistics, name)
    assert found.low + found.high == pytest.approx(value, rel=1e-4)


def test_minmax() -> None:
    """All that was seen, exactly."""
    parts = batches("normal")
    x = whole(parts)
    assert find_range(statistics_of(parts), "minmax") == TensorRange(x.min(), x.max())
    widest = np.abs(x).max()
    found = find_range(statistics_of(parts), "minmax", symmetric=True)
    assert found == TensorRange(-widest, widest)


def test_moving_average() -> None:
    """One odd batch hardly moves it."""
    parts = batches("normal", count=40)
    parts[20] = parts[20] * 100
    found = find_range(statistics_of(parts), "moving-average")
    assert found.high < 8
    assert find_range(statistics_of(parts), "minmax").high > 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [99, 99.9, 99.99])
def test_percentile(kind: str, share: float) -> None:
    """Within a bin of what numpy finds in the whole data."""
    parts = batches(kind, count=400)
    statistics, x = statistics_of(parts), whole(parts)
    width = statistics.histogram.width
    found = find_range(statistics, "percentile", percentile=share)
    # Neighbouring numbers of the tail are further apart than a bin: any between them is right.
    for method in ("lower", "higher"):
        low, high = np.percentile(x, [(100 - share) / 2, (100 + share) / 2], method=method)
        slack = -1 if method == "lower" else 1
        assert slack * (min(low, 0) - found.low) >= -width
        assert slack * (max(high, 0) - found.high) >= -width
    widest = find_range(statistics, "percentile", percentile=share, symmetric=True).high
    least, most = (np.percentile(np.abs(x), share, method=method) for method in ("lower", "higher"))
    assert least - width <= widest <= most + width


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_auto_has_the_least_error(kind: str, symmetric: bool) -> None:
    """It is that of the best of the others."""
    statistics = statistics_of(batches(kind, count=50))
    errors = {}
    for name in NAMES:
        found = find_range(statistics, name, symmetric=symmetric)
        errors[name] = expected_error(statistics, found.low, found.high)
    assert errors["auto"] == min(errors.values())


def test_fewer_bits_cut_off_more() -> None:
    """What is told apart coarsely is better told apart near zero."""
    statistics = statistics_of(batches("outliers", count=50))
    for name in ("mse", "auto"):
        few, many = (find_range(statistics, name, bits=bits) for bits in (4, 8))
        assert few.high < many.high
