"""Exact bounds and McNemar's test, held to scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgekit.evaluation.binomial import (
    clopper_pearson,
    exact_difference,
    mcnemar,
    mcnemar_of,
)


@pytest.mark.parametrize(("hits", "count"), [(1, 30), (5, 100), (9, 5000), (29, 30), (50, 100)])
def test_the_exact_bound_is_clopper_pearson(hits: int, count: int) -> None:
    """The interval of a proportion is scipy's exact one."""
    expected = stats.binomtest(hits, count).proportion_ci(method="exact")
    assert clopper_pearson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("count", [30, 300, 10_000])
def test_no_hits_follow_the_rule_of_three(count: int) -> None:
    """Nothing of n leaves at most about 3/n, and everything of n mirrors it."""
    low, high = clopper_pearson(0, count)
    assert low == 0
    assert high == pytest.approx(1 - 0.05 ** (1 / count), rel=1e-9)
    assert high == pytest.approx(3 / count, rel=0.06)
    assert clopper_pearson(count, count) == (pytest.approx(1 - high), 1.0)


def test_the_exact_difference_holds_its_level() -> None:
    """In simulations the bounds miss the true difference in at most 5 % of the cases."""
    generator = np.random.default_rng(3)
    count, hurt, helped = 400, 0.01, 0.004
    known = {}
    missed = 0
    for _ in range(2000):
        drawn = generator.multinomial(count, [hurt, helped, 1 - hurt - helped])
        key = (int(drawn[0]), int(drawn[1]))
        if key not in known:
            known[key] = exact_difference(*key, count)
        low, high = known[key]
        missed += not low <= hurt - helped <= high
    assert missed / 2000 <= 0.05


@pytest.mark.parametrize(
    ("hurt", "helped"), [(0, 0), (1, 0), (0, 5), (3, 3), (10, 2), (120, 90), (2000, 1900)]
)
def test_mcnemar_is_scipys_binomial_test(hurt: int, helped: int) -> None:
    """Two-sided, of the answers that changed."""
    expected = stats.binomtest(hurt, hurt + helped, 0.5).pvalue if hurt + helped else 1.0
    assert mcnemar(hurt, helped) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(hurt, helped) == mcnemar(helped, hurt)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_mcnemars_p_is_a_probability(hurt: int, helped: int) -> None:
    """And one more answer made wrong, beyond those made right, never makes it larger."""
    p = mcnemar(hurt, helped)
    assert 0 < p <= 1
    if hurt >= helped:
        assert mcnemar(hurt + 1, helped) <= p + 1e-12


def test_mcnemar_is_for_right_and_wrong_only() -> None:
    """Half right is neither."""
    right = np.array([1.0, 1.0, 0.0, 1.0])
    assert mcnemar_of(right, 1 - right) == mcnemar(3, 1)
    assert mcnemar_of(right, np.array([1.0, 0.5, 0.0, 1.0])) is None
