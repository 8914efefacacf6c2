"""What raising costs, and the order in which it pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from edgekit.quantization.latency_table import latency_table
from edgekit.quantization.moves import Costs, levels_above, order_moves, raised
from edgekit.quantization.recipes import Group, Recipe
from tests.quantization.planted import groups_of

RECIPE = Recipe("int8-dynamic")
LETTERS = tuple(Group(name, (name,), "linear", 100) for name in "ab")
TABLE = Group("embeddings", ("/embeddings/Gather",), "embedding", 12_000)


def test_levels_above_a_scheme() -> None:
    """Only what is more exact than everything already is."""
    assert levels_above(RECIPE) == ("weight-int8", "float16", "float32")
    assert levels_above(Recipe("weight-int4")) == ("weight-int8", "float16", "float32")
    assert levels_above(Recipe("weight-int8")) == ("float16", "float32")
    assert levels_above(Recipe("float16")) == levels_above(Recipe("bfloat16")) == ("float32",)


def test_without_a_table_time_goes_with_the_parameters() -> None:
    """Embeddings cost no time, but bytes: nothing is free."""
    groups = (*groups_of(2), Group("big", ("b",), "linear", 2000), TABLE)
    ladders = Costs({}).ladders(RECIPE, groups)
    assert all(set(ladder) == {"float32"} for ladder in ladders.values())
    costs = {name: ladder["float32"] for name, ladder in ladders.items()}
    assert costs["big"] == pytest.approx(2 * costs["layer.0"])
    assert 0 < costs["embeddings"] < costs["layer.0"]
    assert sum(costs.values()) == pytest.approx(1.1)


def test_a_goal_of_size_weighs_bytes() -> None:
    """Then an embedding table is the dearest group of all."""
    groups = (*groups_of(2), TABLE)
    ladders = Costs({}, goal="size").ladders(RECIPE, groups)
    assert ladders["embeddings"]["float32"] > 5 * ladders["layer.0"]["float32"]


def test_the_table_tells_which_levels_are_on_offer() -> None:
    """And what they cost; a gain of time counts as none."""
    row = {"layer.0": 1.0, "layer.1": 3.0}
    costs = Costs({"weight-int8": {"layer.0": 0.4, "layer.1": -0.1}, "float32": row})
    assert costs.levels(RECIPE) == ("weight-int8", "float32")
    ladders = costs.ladders(RECIPE, groups_of(2))
    assert ladders["layer.0"] == {
        "weight-int8": pytest.approx(0.1), "float32": pytest.approx(0.25 + 0.05),
    }  # fmt: skip
    assert ladders["layer.1"]["weight-int8"] == 0


def test_moves_go_by_error_per_cost() -> None:
    """And a group's own in the order of its ladder."""
    moves = order_moves(
        {
            "a": {None: 1.0, "weight-int8": 0.1, "float32": 0.0},
            "b": {None: 0.5, "weight-int8": 0.1, "float32": 0.0},
        },
        {"a": {"weight-int8": 1.0, "float32": 2.0}, "b": {"weight-int8": 0.1, "float32": 2.0}},
        LETTERS,
    )
    assert [(move.group, move.level) for move in moves] == [
        ("b", "weight-int8"), ("a", "weight-int8"), ("a", "float32"), ("b", "float32"),
    ]  # fmt: skip
    assert sum(move.removes for move in moves) == pytest.approx(1.5)
    assert sum(move.cost for move in moves) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("left", "costs"),
    [
        ({"weight-int8": 0.1}, {"weight-int8": 3.0, "float32": 2.0}),
        ({"weight-int8": 0.9}, {"weight-int8": 1.0, "float32": 2.0}),
        ({"weight-int8": 1.2}, {"weight-int8": 1.0, "float32": 2.0}),
        ({"weight-int8": 0.5}, {"weight-int8": 1.0, "float32": 2.0}),
    ],
)
def test_a_level_that_does_not_pay_is_no_step(
    left: Mapping[str, float], costs: Mapping[str, float]
) -> None:
    """Dearer than floating point, or with less than its part of the error removed."""
    errors = {"a": {None: 1.0, **left, "float32": 0.0}}
    moves = order_moves(errors, {"a": costs}, LETTERS)  # type: ignore[arg-type]
    assert [move.level for move in moves] == ["float32"]
    assert moves[0].cost == 2.0


def test_a_group_without_error_is_not_raised() -> None:
    """There is nothing to remove."""
    assert order_moves({"a": {None: 0.0, "float32": 0.0}}, {"a": {"float32": 1.0}}, LETTERS) == ()


def test_a_free_step_is_the_first() -> None:
    """A level that costs nothing pays whatever it removes."""
    moves = order_moves(
        {"a": {None: 1.0, "float32": 0.0}, "b": {None: 1e-3, "float32": 0.0}},
        {"a": {"float32": 1.0}, "b": {"float32": 0.0}},
        LETTERS,
    )
    assert [move.group for move in moves] == ["b", "a"]


def test_of_moves_that_pay_alike_the_smaller_is_first() -> None:
    """Then the graph's order, whatever the order and the last digits of the errors."""
    groups = (Group("x", ("x",), "linear", 200), *LETTERS)
    errors = {"b": 1.0 + 1e-13, "x": 1.0 + 2e-13, "a": 1.0}
    moves = order_moves(
        {name: {None: error, "float32": 0.0} for name, error in errors.items()},
        {name: {"float32": 1.0} for name in errors},
        groups,
    )
    assert [move.group for move in moves] == ["a", "b", "x"]


def test_the_more_exact_of_two_levels_holds() -> None:
    """A recipe after all moves has each group at its highest."""
    moves = order_moves(
        {"a": {None: 1.0, "weight-int8": 0.1, "float32": 0.0}},
        {"a": {"weight-int8": 0.1, "float32": 2.0}},
        LETTERS,
    )
    assert raised(RECIPE, moves[:1]).levels == {"a": "weight-int8"}
    assert raised(RECIPE, moves).levels == {"a": "float32"}
    kept = Recipe("int8-dynamic", levels={"b": "float16"})
    assert raised(kept, moves).levels == {"a": "float32", "b": "float16"}


def test_groups_that_are_alike_are_timed_together() -> None:
    """One recipe per kind and size, and each group has its part of what was lost."""
    groups = (*groups_of(4), Group("head", ("h",), "linear", 50))
    asked: dict[str, Recipe] = {}

    def time_all(recipes: Mapping[str, Recipe]) -> Mapping[str, float]:
        asked.update(recipes)
        return {name: 10.0 + 0.5 * len(recipe.levels) for name, recipe in recipes.items()}

    table = latency_table(groups, RECIPE, ("weight-int8", "float32"), time_all)
    assert len(asked) == 1 + 2 * 2
    assert asked["recipe"] == RECIPE
    assert table["float32"] == pytest.approx(
        {"layer.0": 0.5, "layer.1": 0.5, "layer.2": 0.5, "layer.3": 0.5, "head": 0.5}
    )
    assert set(table) == {"weight-int8", "float32"}


def test_full_bias_correction_is_timed_as_the_fast_one() -> None:
    """Its shifts take long to find and cost a call nothing more."""
    asked: dict[str, Recipe] = {}

    def time_all(recipes: Mapping[str, Recipe]) -> Mapping[str, float]:
        asked.update(recipes)
        return dict.fromkeys(recipes, 1.0)

    latency_table(groups_of(2), replace(RECIPE, correction="full"), ("float32",), time_all)
    assert {recipe.correction for recipe in asked.values()} == {"fast"}


def test_many_sizes_are_timed_by_kind() -> None:
    """Then the larger of a kind has the larger part."""
    groups = tuple(
        Group(f"conv.{size}", (f"c{size}",), "convolution", size) for size in range(1, 20)
    )
    asked: list[str] = []

    def time_all(recipes: Mapping[str, Recipe]) -> Mapping[str, float]:
        asked.extend(recipes)
        return {name: 2.9 if recipe.levels else 1.0 for name, recipe in recipes.items()}

    table = latency_table(groups, RECIPE, ("float32",), time_all)
    assert asked == ["recipe", "float32/0"]
    assert table["float32"]["conv.19"] == pytest.approx(0.19)
    assert sum(table["float32"].values()) == pytest.approx(1.9)


def test_noise_of_the_clock_changes_no_order() -> None:
    """Times that differ by a hundredth of the largest loss make the same ladders and moves."""
    groups = tuple(
        Group(f"g.{size}", (f"n.{size}",), "linear", size) for size in (100, 200, 300, 400)
    )
    errors = {group.name: {None: 1.0 / group.parameters, "float32": 0.0} for group in groups}
    true = {"float32/0": 1.0, "float32/1": 0.4, "float32/2": 0.6, "float32/3": 0.2}
    orders = set()
    for seed in range(20):
        noise = np.random.default_rng(seed)

        def time_all(
            recipes: Mapping[str, Recipe], noise: np.random.Generator = noise
        ) -> Mapping[str, float]:
            return {
                name: 5.0 + true.get(name, 0.0) * float(noise.uniform(0.995, 1.005))
                for name in recipes
            }

        costs = Costs(latency_table(groups, RECIPE, ("float32",), time_all))
        moves = order_moves(errors, costs.ladders(RECIPE, groups), groups)
        orders.add(tuple((move.group, f"{move.cost:.9g}") for move in moves))
    assert len(orders) == 1


def test_losses_are_told_in_steps() -> None:
    """Of a twentieth of the largest of all levels, which itself stays what it is."""
    groups = (*groups_of(1), Group("head", ("h",), "linear", 50))
    times = {"recipe": 1.0, "float32/0": 3.0, "float32/1": 1.52, "weight-int8/0": 1.07}

    def time_all(recipes: Mapping[str, Recipe]) -> Mapping[str, float]:
        return {name: times.get(name, 0.9) for name in recipes}

    table = latency_table(groups, RECIPE, ("weight-int8", "float32"), time_all)
    assert table["float32"] == pytest.approx({"layer.0": 2.0, "head": 0.5})
    assert table["weight-int8"] == pytest.approx({"layer.0": 0.1, "head": -0.1})


def test_what_cannot_be_timed_has_no_table() -> None:
    """Then sizes stand for times."""
    assert latency_table(groups_of(2), RECIPE, ("float32",), lambda recipes: {}) == {}
