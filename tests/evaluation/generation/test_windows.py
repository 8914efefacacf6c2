"""Which tokens of a text are read together, and which of them count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from edgekit.evaluation.generation.windows import surprises, windows_of


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 50])
def test_every_token_but_the_first_counts_once(size: int) -> None:
    """However long the context is, and with half a window before it where there is one."""
    tokens = list(range(23))
    found = windows_of(4, tokens, size)
    counted = [token for window in found for token in window.tokens[window.first :]]
    assert counted == tokens[1:]
    assert sum(window.scored for window in found) == len(counted)
    assert all(len(window.tokens) <= size for window in found)
    assert {window.sample for window in found} == {4}
    for window in found[1:]:
        assert window.first >= size // 2
        assert window.scored >= 1


def test_what_nothing_stands_before_has_no_window() -> None:
    """An empty text, and one of a single token."""
    assert windows_of(0, [], 8) == []
    assert windows_of(0, [5], 8) == []
    (window,) = windows_of(0, [5, 6], 8)
    assert (window.tokens, window.first, window.scored) == ([5, 6], 1, 1)


def test_a_context_without_end_is_read_in_windows_all_the_same() -> None:
    """A cache of a whole book would not fit."""
    found = windows_of(0, list(range(5000)), None)
    assert max(len(window.tokens) for window in found) == 2048
    assert windows_of(0, list(range(5000)), 1 << 20) == found


def test_surprises_are_those_of_a_softmax() -> None:
    """Of scores of any size, to the last digits of their own."""
    logits = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32) * 30 + 500
    tokens = [0, 39, 7, 7, 12, 1]
    expected = -special.log_softmax(logits.astype(np.float64), axis=-1)[range(6), tokens]
    np.testing.assert_allclose(surprises(logits, tokens), expected, rtol=1e-5, atol=1e-5)
