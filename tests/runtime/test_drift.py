"""Whether answers stay what they were: samples, changes, tolerances."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgekit.core.tolerance import TOLERANCES
from edgekit.runtime.drift import Drift, drift, sampled


def test_what_stays_has_no_drift() -> None:
    """The same arrays are within the narrowest tolerance."""
    outputs = {"y": np.arange(6, dtype=np.float32).reshape(2, 3)}
    found = drift(sampled(outputs), outputs)
    assert found is not None
    assert (found.max_abs, found.max_ref) == (0.0, 5.0)
    assert found.within(TOLERANCES["fp32"])


def test_a_change_is_measured() -> None:
    """The output that moved most in proportion is the one that is told."""
    first = sampled({"a": np.array([100.0, 1.0]), "b": np.array([1.0, 2.0])})
    found = drift(first, {"a": np.array([101.0, 1.0]), "b": np.array([1.0, 2.5])})
    assert found is not None
    assert (found.output, found.max_abs, found.max_ref) == ("b", 0.5, 2.0)
    assert found.cosine == pytest.approx(6 / math.sqrt(5 * 7.25))
    assert not found.within(TOLERANCES["fp32"])
    assert "output b" in found.describe()


def test_only_a_sample_is_kept() -> None:
    """A large output costs the check a fixed amount of memory."""
    large = np.zeros((1000, 1000), dtype=np.float32)
    kept = sampled({"y": large})["y"]
    assert 30_000 < kept.size <= 65_536
    assert not np.shares_memory(kept, large)
    assert sampled({"y": np.zeros(0, dtype=np.float32)})["y"].size == 0


@pytest.mark.parametrize("later", [{}, {"y": np.zeros(3)}])
def test_another_shape_is_beyond_every_tolerance(later: dict[str, np.ndarray]) -> None:
    """Nothing to compare is no agreement."""
    found = drift(sampled({"y": np.ones(2)}), later)
    assert found is not None
    assert not any(found.within(rule) for rule in TOLERANCES.values())


def test_text_outputs_are_left_out() -> None:
    """Only numbers have distances."""
    assert drift(sampled({"words": np.array(["a", "b"])}), {}) is None


def test_a_drift_survives_the_pipe() -> None:
    """Also with an infinite difference."""
    made = Drift("y", math.inf, 1.0, -1.0)
    assert Drift.from_json(json.loads(json.dumps(made.to_json()))) == made
    with pytest.raises(KeyError):
        Drift.from_json({"output": "y"})


def test_a_single_number_that_moved() -> None:
    """Its sign alone is no answer, whatever the cosine says."""
    found = drift(sampled({"p": np.array([[0.95]])}), {"p": np.array([[0.01]])})
    assert found is not None
    assert found.cosine == 1.0
    assert not found.within(TOLERANCES["int8"])
