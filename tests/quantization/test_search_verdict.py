"""The final gate of a search: the verdict on rows that no choice has seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.evaluation.binomial import clopper_pearson
from edgekit.evaluation.statistics import Budget, Drop, judge, parse_drop
from edgekit.quantization.chances import chance, projected_upper, shrunk
from edgekit.quantization.recipes import Recipe
from edgekit.quantization.search import CONFIDENT, Search
from tests.quantization.planted import Planted

RECIPE = Recipe("int8-dynamic")
POINT = Budget(0.01, "points")


def planted(**changes: object) -> Planted:
    """Twelve layers, a bad one and three middling ones."""
    noise = {f"layer.{number}": 0.01 for number in range(12)}
    noise.update({"layer.5": 2.5, "layer.2": 0.1, "layer.7": 0.08, "layer.9": 0.05})
    return Planted(noise, **changes)  # type: ignore[arg-type]


def test_the_winner_passes_on_rows_that_no_choice_saw() -> None:
    """The search reads its own rows; the upper end of the drop on the others is in the budget."""
    model = planted()
    found = Search(model, model.groups, model.budget, verdict_samples=model.verdict_rows).run(
        RECIPE
    )
    assert found is not None
    drop = model.drop(found.recipe, model.verdict)
    assert drop.samples == model.verdict_rows
    assert drop.high <= model.budget.limit
    assert judge(drop, model.budget) == ("pass", None)


def test_what_was_rejected_would_not_have_passed() -> None:
    """Everything quantized fails on the verdict rows as it did on those of the search."""
    model = planted()
    search = Search(model, model.groups, model.budget, verdict_samples=model.verdict_rows)
    search.run(RECIPE)
    assert search.attempts[0].recipe == RECIPE
    assert not search.attempts[0].accepted
    assert judge(model.drop(RECIPE, model.verdict), model.budget)[0] == "fail"


def test_the_verdict_rows_choose_nothing() -> None:
    """Other verdict rows, the same search: what they hold has no way in."""
    one, other = planted(), planted()
    other.labels[other.verdict] = 1 - other.labels[other.verdict]
    other.logits[other.verdict] *= -3
    tried = []
    for model in (one, other):
        search = Search(model, model.groups, model.budget, verdict_samples=model.verdict_rows)
        search.run(RECIPE)
        tried.append(search.attempts)
    assert tried[0] == tried[1]


@pytest.mark.parametrize("metric", ["accuracy", "f1-binary", "matthews", "auc"])
def test_an_impossible_budget_fails_for_floating_point_too(metric: str) -> None:
    """Not one of 12,000 answers differs, and still a ten-thousandth of a per cent is not proved."""
    model = planted(metric=metric, budget=parse_drop("0.0001%"))
    drop = model.drop(None, model.verdict)
    assert (drop.value, drop.disagreeing) == (0, 0)
    assert drop.high > model.budget.limit
    assert judge(drop, model.budget)[0] == "inconclusive"


def test_an_impossible_budget_is_known_before_the_search() -> None:
    """From the graph in floating point on the search rows, without a single evaluation."""
    model = planted(budget=parse_drop("0.0001%"))
    floor = model.drop(None, model.search)
    rows = model.verdict_rows
    search = Search(model, model.groups, model.budget, verdict_samples=rows, floor=floor)
    assert search.run(RECIPE) is None
    assert model.evaluated == model.errors == []
    assert "not even the graph in floating point" in (search.impossible() or "")


def test_a_budget_that_the_verdict_rows_can_prove_is_not_given_up() -> None:
    """The rows of the search are too few to prove it, those of the verdict are not."""
    model = planted(budget=Budget(0.0005, "points"))
    floor = model.drop(None, model.search)
    assert floor.high > model.budget.limit
    few, many = (
        Search(model, model.groups, model.budget, verdict_samples=rows, floor=floor)
        for rows in (None, model.verdict_rows)
    )
    assert few.impossible() is not None
    assert many.impossible() is None


def test_the_chance_is_that_of_the_verdict() -> None:
    """Of drawn models the share that pass is the mean of the chances that the search rows told."""
    generator = np.random.default_rng(5)
    here, there, budget = 2000, 6000, Budget(0.01, "points")
    told, passed = [], []
    for _ in range(2000):
        # A model's true drop is as likely here as there: what is seen says where it is.
        true = generator.uniform(-0.03, 0.05)
        found = _seen(generator, true, here)
        told.append(chance(found, budget, there))
        passed.append(_seen(generator, true, there).high <= budget.limit)
    order = np.argsort(told)
    for part in np.array_split(order, 8):
        expected, share = np.array(told)[part].mean(), np.array(passed)[part].mean()
        assert share == pytest.approx(expected, abs=0.1)


def _seen(generator: np.random.Generator, true: float, rows: int) -> Drop:
    """A drop as it is measured on some rows: normal, with its interval."""
    error = math.sqrt(0.03 / rows)
    value = generator.normal(true, error)
    return Drop(value, value - 1.96 * error, value + 1.96 * error, rows, "bootstrap", 60)


@pytest.mark.parametrize(
    ("drop", "likely"),
    [
        (Drop(math.nan, math.nan, math.nan, 100, "bootstrap", 50), 0.0),
        (Drop(math.inf, 0.0, math.inf, 100, "bootstrap", 50), 0.0),
        (Drop(0.0, -math.inf, math.inf, 100, "exact", 3), 0.0),
        (Drop(0.0, -0.001, 0.001, 100, "exact", 3), 1.0),
        (Drop(0.0, -0.001, 0.001, 100, "exact", 0), 1.0),
        (Drop(0.0, -0.02, 0.02, 100, "exact", 0), 0.0),
        (Drop(0.0, -0.01, 0.01, 100, "bootstrap", 50), 0.5),
        (Drop(-0.5, -0.51, -0.49, 100, "bootstrap", 50), 1.0),
        (Drop(0.005, 0.005, 0.005, 100, "bootstrap", 50), 1.0),
        (Drop(0.02, 0.02, 0.02, 100, "bootstrap", 50), 0.0),
    ],
)
def test_chances_of_plain_cases(drop: Drop, likely: float) -> None:
    """A drop that is no number has none; one on the budget's edge one half."""
    assert chance(drop, POINT) == pytest.approx(likely, abs=1e-6)


def test_more_verdict_rows_raise_the_chance() -> None:
    """The interval narrows, and what agrees everywhere follows the rule of three."""
    drop = Drop(0.005, -0.001, 0.011, 1000, "bootstrap", 30)
    assert chance(drop, POINT) < 0.5 < CONFIDENT < chance(drop, POINT, 100_000)
    assert projected_upper(drop, 4000) == pytest.approx(0.008)
    same = Drop(0.0, -0.003, 0.003, 1000, "exact", 0)
    assert projected_upper(same, 4000) == pytest.approx(0.00075, rel=0.01)


def test_few_disagreements_are_no_longer_few_on_more_rows() -> None:
    """An exact bound that is too wide here says little of what a bootstrap will say there."""
    high = clopper_pearson(8, 1000)[1] * 3
    few = Drop(0.002, -high, high, 1000, "exact", 8)
    assert high > POINT.limit
    assert projected_upper(few) == pytest.approx(high)
    # Eighty of 10,000, each worth three times its share.
    assert projected_upper(few, 10_000) == pytest.approx(
        0.002 + 1.96 * 3 * math.sqrt(80) / 10_000, rel=1e-3
    )
    assert chance(few, POINT, 10_000) < chance(few, Budget(0.02, "points"), 10_000)


def test_less_error_shrinks_a_drop() -> None:
    """A quarter of the noise's power is half of the drop."""
    found = shrunk(Drop(0.02, 0.01, 0.03, 1000, "bootstrap", 90), 0.25)
    assert found.value == pytest.approx(0.01)
    assert found.high - found.value == pytest.approx(0.01 * 0.25**0.25)
