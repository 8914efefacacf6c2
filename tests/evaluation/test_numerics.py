"""How far outputs lie apart: KL held to scipy, gaps and NaN told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from edgekit.core.tolerance import TOLERANCES
from edgekit.evaluation.numerics import (
    Distance,
    add_outputs,
    largest_gap,
    likelihood_of,
    sigmoid_divergence,
    softmax_divergence,
)

LOGITS = arrays.arrays(np.float64, (3, 4), elements=st.floats(-30, 30))


@given(LOGITS, LOGITS)
@settings(max_examples=60, deadline=None)
def test_the_divergence_is_that_of_scipy(x: np.ndarray, y: np.ndarray) -> None:
    """Of the softmax of both, from the reference's side, never below 0."""
    expected = stats.entropy(special.softmax(x, axis=1), special.softmax(y, axis=1), axis=1)
    found = softmax_divergence(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert (found >= 0).all()
    # What all logits have in common is no probability.
    np.testing.assert_allclose(softmax_divergence(x + 5, y), found, rtol=1e-6, atol=1e-9)


@given(LOGITS, LOGITS)
@settings(max_examples=60, deadline=None)
def test_several_classes_diverge_each_by_itself(x: np.ndarray, y: np.ndarray) -> None:
    """The sum over classes of the divergence of yes and no."""
    p, q = special.expit(x), special.expit(y)
    # expit(-x) and not 1 - p, which is nothing for a large logit.
    expected = special.rel_entr(p, q) + special.rel_entr(special.expit(-x), special.expit(-y))
    np.testing.assert_allclose(sigmoid_divergence(x, y), expected.sum(axis=1), rtol=1e-6, atol=1e-9)


def test_a_class_that_is_ruled_out_adds_nothing() -> None:
    """Masked logits are minus infinity on both sides."""
    x = np.array([[1.0, 2.0, -np.inf]])
    with np.errstate(invalid="ignore"):
        assert softmax_divergence(x, x)[0] == pytest.approx(0)


@pytest.mark.parametrize(
    ("output", "problem", "expected"),
    [
        ("logits", None, "softmax"),
        ("start_logits", None, "softmax"),
        ("logits", "multi_label_classification", "sigmoid"),
        ("logits", "regression", None),
        ("sentence_embedding", None, None),
    ],
)
def test_only_logits_are_probabilities(
    output: str, problem: str | None, expected: str | None
) -> None:
    """An embedding or a regression has no divergence."""
    assert likelihood_of(output, problem) == expected


def test_the_divergence_is_the_mean_over_samples() -> None:
    """Added pair by pair; outputs without probabilities have none."""
    generator = np.random.default_rng(0)
    distances: dict[str, Distance] = {}
    pairs = [generator.normal(size=(2, 2, 5)) for _ in range(4)]
    gaps = [
        add_outputs(
            distances, "text-classification", {"logits": x, "states": x}, {"logits": y, "states": y}
        )
        for x, y in pairs
    ]
    expected = np.mean([softmax_divergence(x, y) for x, y in pairs])
    assert distances["logits"].numerics().kl == pytest.approx(expected)
    assert distances["states"].numerics().kl is None
    assert gaps == [pytest.approx(np.abs(x - y).max()) for x, y in pairs]


def test_a_gap_with_nan_is_nan() -> None:
    """Whatever comes after it."""
    bad, good = np.array([np.nan, 1.0]), np.array([0.0, 1.0])
    assert math.isnan(largest_gap({"a": good, "b": good}, {"a": bad, "b": good}))
    assert largest_gap({"a": good}, {"a": good + 0.5, "c": bad}) == 0.5
    distances: dict[str, Distance] = {}
    found = add_outputs(distances, "custom", {"a": good, "b": good}, {"a": np.ones(3), "b": good})
    assert math.isnan(found)


def test_a_probability_that_went_another_way() -> None:
    """Few numbers a row are held to their difference too, which is what the gate then tells."""
    found = Distance()
    for before, after in ((0.95, 0.01), (0.9, 0.0095)):
        found.add(np.array([[before]]), np.array([[after]]), choices=False)
    rule = TOLERANCES["int8"]
    assert found.numerics().cosine > 0.99
    assert not found.within(rule)
    apart, allowed, what = found.used(rule)
    assert (apart, what) == (pytest.approx(0.94), "the largest difference")
    assert allowed == pytest.approx(rule.most(0.95))


def test_long_rows_are_held_to_the_cosine_alone() -> None:
    """One number of many may be far off."""
    before = np.ones((1, 512))
    after = before.copy()
    after[0, 0] = 3.0
    found = Distance()
    found.add(before, after, choices=False)
    assert found.within(TOLERANCES["int8"])
    assert found.used(TOLERANCES["int8"]).what == "1 − cosine"
