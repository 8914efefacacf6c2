"""The error of a quantized graph's outputs: noise over signal, or the divergence of classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from edgekit.quantization.distances import OutputError

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(0, 2, (40, 8)).astype(np.float32)
NOISE = GENERATOR.normal(0, 0.01, X.shape).astype(np.float32)


def error_of(name: str, reference: object, candidate: object, problem: str | None = None) -> float:
    """Of one call."""
    found = OutputError(problem)
    found.add({name: np.asarray(reference)}, {name: np.asarray(candidate)})
    return found.value


def test_the_power_of_the_noise_over_the_signals() -> None:
    """‖y − x‖² / ‖x‖² over all calls together, of ragged shapes too."""
    found = OutputError()
    for part in (slice(0, 1), slice(1, 15), slice(15, 40)):
        found.add({"embedding": X[part]}, {"embedding": (X + NOISE)[part]})
    assert found.measure == "NMSE"
    expected = np.square((X + NOISE).astype(float) - X).sum() / np.square(X.astype(float)).sum()
    assert found.value == pytest.approx(expected)


def test_the_divergence_of_logits() -> None:
    """In nats per row, as scipy has it."""
    found = OutputError()
    found.add({"logits": X}, {"logits": X + NOISE})
    assert found.measure == "KL"
    before, after = (special.softmax(x.astype(float), axis=1) for x in (X, X + NOISE))
    assert found.value == pytest.approx(stats.entropy(before, after, axis=1).mean(), rel=1e-6)
    assert error_of("logits", X, X + NOISE, "regression") < 1e-4
    assert error_of("logits", X[:, :1], X[:, :1] + NOISE[:, :1]) > 0


def test_both_add_up() -> None:
    """Twice the noise is four times the error; two noises have the sum of theirs."""
    other = np.random.default_rng(9).normal(0, 0.01, X.shape)
    for name in ("embedding", "logits"):
        one, two = error_of(name, X, X + NOISE), error_of(name, X, X + other)
        assert error_of(name, X, X + 2 * NOISE) == pytest.approx(4 * one, rel=0.05)
        assert error_of(name, X, X + NOISE + other) == pytest.approx(one + two, rel=0.2)


@pytest.mark.parametrize("name", ["embedding", "logits"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_no_number_is_an_infinite_error(name: str, wrong: float) -> None:
    """Once in any call is enough."""
    broken = X.copy()
    broken[3, 2] = wrong
    found = OutputError()
    for candidate in (X, broken, X):
        found.add({name: X}, {name: candidate})
    assert found.value == math.inf


def test_other_shapes_and_missing_outputs_are_infinite() -> None:
    """Nothing can be compared, so nothing is good."""
    assert error_of("embedding", X, X[:, :7]) == math.inf
    found = OutputError()
    found.add({"embedding": X, "logits": X}, {"embedding": X})
    assert found.value == math.inf


def test_whole_numbers_are_counted() -> None:
    """The share of those that are others."""
    assert error_of("ids", np.arange(10), np.where(np.arange(10) < 3, -1, np.arange(10))) == 0.3


def test_same_answers_have_no_error() -> None:
    """Also those of nothing but zeros, and of nothing at all."""
    assert error_of("embedding", X, X) == 0
    assert error_of("embedding", X * 0, X * 0) == 0
    assert error_of("embedding", X * 0, NOISE) == math.inf
    assert error_of("embedding", X[:0], X[:0]) == 0
    assert OutputError().value == 0
