"""The search for the cheapest recipe within a budget, on models whose errors are planted."""

from __future__ import annotations

import errno
import math
from dataclasses import replace

import numpy as np
import pytest

from edgekit.core.errors import ConfigError, QuantizeError, SessionError
from edgekit.core.measurements import Tried
from edgekit.evaluation.statistics import Budget, Drop
from edgekit.quantization.moves import Costs
from edgekit.quantization.recipes import Group, Recipe
from edgekit.quantization.search import Search
from edgekit.quantization.trials import Attempt, Measured, describe
from tests.quantization.planted import Additive, Planted, drop_of, groups_of

RECIPE = Recipe("int8-dynamic")
STATIC = Recipe("int8-static")
NAMES = [f"layer.{number}" for number in range(64)]


def search_of(trial: Additive, limit: float, **options: object) -> Search:
    """A search over groups of one size; no algorithm helps unless the trial says so."""
    options.setdefault("groups", groups_of(len(trial.noise)))
    groups = options.pop("groups")
    return Search(trial, groups, Budget(limit, "points"), **options)  # type: ignore[arg-type]


def test_what_is_good_enough_is_not_changed() -> None:
    """Everything quantized within the budget: one evaluation, and nothing is ranked."""
    trial = Additive({"layer.0": 0.001, "layer.1": 0.002})
    search = search_of(trial, 0.01)
    found = search.run(RECIPE)
    assert found is search.best
    assert found is not None
    assert (found.recipe, found.cost, found.chance) == (RECIPE, 0, 1)
    assert (search.evaluations, trial.errors) == (1, [])
    assert search.told() == (
        Tried("int8-dynamic", 0.003, 1000, True, "the cheapest within the budget"),
    )


def test_raises_no_more_than_is_needed() -> None:
    """Of errors that add up the largest go, and just as many as the budget asks for."""
    trial = Additive({name: 0.001 * (1 + index) for index, name in enumerate(NAMES[:10])})
    search = search_of(trial, 0.0215)
    found = search.run(RECIPE)
    assert found is not None
    # 1 + 2 + … + 6 = 21 thousandths are left.
    assert set(found.recipe.levels) == set(NAMES[6:10])
    assert set(found.recipe.levels.values()) == {"float32"}
    assert search.sensitivity is not None
    assert [one.group for one in search.sensitivity.groups] == NAMES[9::-1]
    assert found.predicted == pytest.approx(0.021)


@pytest.mark.parametrize("needed", [1, 2, 7, 20, 31, 47, 60, 62])
def test_the_bisection_takes_about_the_logarithm(needed: int) -> None:
    """Wherever the answer lies among 64 groups, it is found with log2 64 evaluations and a few."""
    generator = np.random.default_rng(needed)
    noise = dict(zip(NAMES, np.sort(generator.uniform(0.5, 1, 64))[::-1] / 1000, strict=True))
    limit = sum(list(noise.values())[needed:]) + 1e-5
    trial = Additive(noise)
    search = search_of(trial, limit)
    found = search.run(RECIPE)
    assert found is not None
    assert set(found.recipe.levels) == set(NAMES[:needed])
    # All quantized, the algorithms, where the bisection begins, six halvings, and lowering.
    assert search.evaluations <= 3 + 6 + 2
    assert len(trial.evaluated) == search.evaluations


def test_the_prediction_shortens_the_bisection() -> None:
    """Where one group makes the error, the first guess is to raise it alone."""
    trial = Additive({name: 0.1 if name == "layer.33" else 1e-5 for name in NAMES})
    search = search_of(trial, 0.01)
    found = search.run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.33": "float32"}
    assert search.evaluations == 2


def test_never_more_evaluations_than_allowed() -> None:
    """With none left the search ends with what it has."""
    trial = Additive(dict.fromkeys(NAMES, 0.001))
    said: list[str] = []
    search = search_of(trial, 0.0301, most=4, progress=said.append)
    found = search.run(RECIPE)
    assert search.evaluations == 4
    assert "All 4 evaluations are used up" in said
    assert found is None or found.accepted
    none = search_of(trial, 0.0301, most=0)
    assert none.run(RECIPE) is None
    assert none.closest is None


def test_nothing_is_good_enough() -> None:
    """A budget below the smallest group's error: no candidate, and the nearest is told."""
    trial = Additive({"layer.0": 0.01, "layer.1": 0.02, "layer.2": 0.03})
    search = search_of(trial, 0.001)
    assert search.run(RECIPE) is None
    assert search.best is None
    assert not any(one.taken for one in search.told())
    # All three in floating point would be no quantized model.
    assert all(len(one.levels) < 3 for one in trial.evaluated)


def test_a_budget_that_floating_point_misses_is_not_searched_for() -> None:
    """No evaluation is spent on it, and the reason is told."""
    trial = Additive({"layer.0": 0.001, "layer.1": 0.001})
    floor = Drop(0.0, -0.003, 0.003, 1000, "exact", 0)
    search = search_of(trial, 1e-6, floor=floor, verdict_samples=3500)
    assert search.run(RECIPE) is None
    assert (search.evaluations, trial.errors) == (0, [])
    assert search.impossible() == (
        "not even the graph in floating point can be proved within 0.0001pt on 3,500 rows"
    )
    assert search_of(trial, 0.01, floor=floor).impossible() is None


def test_the_likeliest_is_left_when_nothing_is_good_enough() -> None:
    """What will sooner pass than not is worth a verdict; what will not is told as the closest."""

    class Uncertain(Additive):
        def evaluate(self, recipe: Recipe) -> Measured:
            self.evaluated.append(recipe)
            value = self.total(recipe)
            return Measured(Drop(value, value - 0.004, value + 0.004, 1000, "bootstrap", 50), 1)

    noise = {"layer.0": 0.02, "layer.1": 0.0048}
    search = search_of(Uncertain(noise), 0.01)
    found = search.run(RECIPE)
    assert found is not None
    assert not found.accepted
    assert 0.5 < found.chance < 0.95
    assert found.recipe.levels == {"layer.0": "float32"}
    taken = [one for one in search.told() if one.taken]
    assert [one.reason for one in taken] == [found.reason]
    assert "likely to pass" in found.reason
    search = search_of(Uncertain(noise), 0.008)
    assert search.run(RECIPE) is None
    assert search.closest is not None
    assert search.closest.recipe.levels == {"layer.0": "float32"}


def test_the_least_of_many_has_to_be_surer() -> None:
    """A chance that is good enough for everything quantized is not for the least of a bisection."""

    class Uncertain(Additive):
        def evaluate(self, recipe: Recipe) -> Measured:
            self.evaluated.append(recipe)
            value = self.total(recipe)
            return Measured(Drop(value, value - 0.004, value + 0.004, 1000, "bootstrap", 50), 1)

    first = search_of(Uncertain({"layer.0": 0.002, "layer.1": 0.001}), 0.01).run(RECIPE)
    assert first is not None
    assert 0.8 <= first.chance < 0.95
    noise = {"layer.0": 0.02, "layer.1": 0.001, "layer.2": 0.001}
    found = search_of(Uncertain(noise), 0.01).run(RECIPE)
    assert found is not None
    assert found.chance >= 0.95
    assert set(found.recipe.levels) == {"layer.0", "layer.1"}


def test_a_winner_that_is_refused_later_is_told_so() -> None:
    """Slower than its input, say: the reason stands where "taken" would."""
    search = search_of(Additive({"layer.0": 0.001, "layer.1": 0.002}), 0.01)
    search.run(RECIPE)
    assert search.told("slower than its input") == (
        Tried("int8-dynamic", 0.003, 1000, False, "slower than its input"),
    )


def test_an_algorithm_that_helps_is_switched_on() -> None:
    """Algorithms are compared by the error, so that they cost no evaluation; the best is kept."""
    effects = {(None, "none"): 1.0, (0.5, "none"): 0.2, (0.5, "fast"): 0.3, (0.5, "full"): 0.1}
    trial = Additive(
        {"layer.0": 0.01, "layer.1": 0.01},
        effect=lambda recipe: effects.get((recipe.smooth, recipe.correction), 2.0),
    )
    search = search_of(trial, 0.005)
    found = search.run(RECIPE)
    assert found is not None
    assert found.recipe == replace(RECIPE, smooth=0.5, correction="full")
    assert found.name == "int8-dynamic, SmoothQuant 0.5, full bias correction"
    assert search.evaluations == 2
    tried = {one.name: one.reason for one in search.told()}
    assert tried["int8-dynamic, SmoothQuant 0.75"] == "compared by its outputs alone: NMSE 0.04"


def test_an_algorithm_that_hurts_is_switched_off() -> None:
    """SmoothQuant and bias correction both make some models worse."""
    trial = Additive(
        {"layer.0": 0.001, "layer.1": 0.001},
        effect=lambda recipe: 1 + (recipe.smooth is not None) + (recipe.correction == "full"),
    )
    search = search_of(trial, 0.003)
    found = search.run(replace(STATIC, smooth=0.5, correction="full"))
    assert found is not None
    assert found.recipe.smooth is None
    assert found.recipe.correction == "fast"


def test_what_the_engine_cannot_do_is_not_tried() -> None:
    """Neither as a switch nor as a refusal among what was tried; 0.8 is a strength like others."""
    trial = Additive(
        {"layer.0": 0.01, "layer.1": 0.01},
        effect=lambda recipe: 0.1 if recipe.smooth == 0.8 else 1.0,
    )
    search = search_of(trial, 0.003, supports=lambda recipe: recipe.correction == "none")
    found = search.run(RECIPE)
    assert found is not None
    assert found.recipe == replace(RECIPE, smooth=0.8)
    assert {recipe.correction for recipe in trial.errors} == {"none"}
    assert not any("bias correction" in one.name for one in search.told())


def test_an_engine_without_switches_compares_nothing() -> None:
    """Then the plain recipe's error is measured for the ranking only."""
    trial = Additive({"layer.0": 0.01, "layer.1": 0.001})
    search = search_of(trial, 0.005, supports=lambda recipe: recipe == RECIPE)
    search.run(RECIPE)
    assert all(recipe.smooth is None for recipe in trial.errors)
    assert {recipe.correction for recipe in trial.errors} == {"none"}


def test_without_samples_nothing_is_calibrated() -> None:
    """Algorithms that need samples are not tried where there are none."""
    trial = Additive({"layer.0": 0.01, "layer.1": 0.001})
    search = search_of(trial, 0.005, samples=False)
    search.run(RECIPE)
    asked = [*trial.errors, *trial.evaluated]
    assert asked
    assert not any(recipe.needs_calibration for recipe in asked)


def test_the_cheaper_group_of_two_is_raised() -> None:
    """Of two groups with one error the one that costs fewer milliseconds goes first."""
    trial = Additive({"layer.0": 0.01, "layer.1": 0.01, "layer.2": 0.001})
    costs = Costs({"float32": {"layer.0": 0.5, "layer.1": 0.1, "layer.2": 0.1}})
    found = search_of(trial, 0.012, costs=costs).run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.1": "float32"}


def test_the_table_is_measured_only_when_it_is_needed() -> None:
    """Once, with the recipe whose groups are raised."""
    asked: list[Recipe] = []

    def costs(recipe: Recipe) -> Costs:
        asked.append(recipe)
        return Costs({"float32": {"layer.0": 0.5, "layer.1": 0.1}})

    search_of(Additive({"layer.0": 0.01, "layer.1": 0.01}), 0.1, costs=costs).run(RECIPE)
    assert asked == []
    trial = Additive(
        {"layer.0": 0.01, "layer.1": 0.01},
        effect=lambda recipe: 0.9 if recipe.smooth == 0.5 else 1.0,
    )
    found = search_of(trial, 0.012, costs=costs).run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.1": "float32"}
    assert asked == [replace(RECIPE, smooth=0.5)]


def test_error_per_millisecond_decides() -> None:
    """A group with half of the error goes first where it costs a tenth of the time."""
    trial = Additive({"layer.0": 0.02, "layer.1": 0.01, "layer.2": 0.001})
    costs = Costs({"float32": {"layer.0": 1.0, "layer.1": 0.1, "layer.2": 1.0}})
    found = search_of(trial, 0.0215, costs=costs).run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.1": "float32"}


def test_a_level_between_is_enough() -> None:
    """Weights of 8 bits are taken where they leave little error and cost less than floats."""
    trial = Additive({"layer.0": 0.01, "layer.1": 0.001})
    row = {"layer.0": 1.0, "layer.1": 1.0}
    costs = Costs({"weight-int8": {"layer.0": 0.5, "layer.1": 0.5}, "float32": row})
    found = search_of(trial, 0.005, costs=costs).run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.0": "weight-int8"}
    assert found.name == "int8-dynamic, layer.0 at weight-int8"


def test_a_level_that_does_not_help_is_passed_over() -> None:
    """A group whose weights are the trouble goes to floating point at once."""
    left = {"weight-int8": 0.99, "float16": 0.98, "float32": 0.0}
    trial = Additive({"layer.0": 0.01, "layer.1": 0.001}, left=left)  # type: ignore[arg-type]
    costs = Costs({}, offered=("weight-int8", "float16", "float32"))
    found = search_of(trial, 0.005, costs=costs).run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.0": "float32"}


def test_what_the_last_step_made_needless_is_lowered_again() -> None:
    """A small group that paid well is quantized again after a large one had to be raised."""
    trial = Additive({"layer.0": 0.003, "layer.1": 0.02, "layer.2": 0.0001})
    costs = Costs({"float32": {"layer.0": 0.01, "layer.1": 1.0, "layer.2": 1.0}})
    search = search_of(trial, 0.0115, costs=costs)
    found = search.run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.1": "float32"}
    higher = [one for one in search.attempts if one.accepted and len(one.recipe.levels) == 2]
    assert higher
    assert found.cost < higher[0].cost


def test_lowering_too_much_changes_nothing() -> None:
    """What was verified stays the best when the lowered one is over the budget."""

    # The drop is not what the errors foretell: two groups are bad only together.
    class Together(Additive):
        def evaluate(self, recipe: Recipe) -> Measured:
            self.evaluated.append(recipe)
            return Measured(drop_of(0.0 if len(recipe.levels) >= 2 else 1.0), 1000)

    trial = Together({"layer.0": 0.003, "layer.1": 0.02, "layer.2": 0.0001})
    costs = Costs({"float32": {"layer.0": 0.01, "layer.1": 1.0, "layer.2": 1.0}})
    search = search_of(trial, 0.0115, costs=costs)
    found = search.run(RECIPE)
    assert found is not None
    assert set(found.recipe.levels) == {"layer.0", "layer.1"}
    assert search.attempts[-1].accepted is False


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Measured(drop_of(math.nan), 1), "the metric is no number"),
        (Measured(drop_of(0.0), 1, problem="NaN in 3 samples."), "NaN in 3 samples"),
        (QuantizeError("No such kernel."), "No such kernel"),
        (SessionError("The graph does not load."), "The graph does not load"),
    ],
)
def test_what_fails_is_rejected(found: Measured | Exception, reason: str) -> None:
    """A candidate without a number is never the best, and the search goes on to one that has."""

    class Failing(Additive):
        def evaluate(self, recipe: Recipe) -> Measured:
            if "layer.0" in recipe.levels:
                return super().evaluate(recipe)
            self.evaluated.append(recipe)
            if isinstance(found, Exception):
                raise found
            return found

    trial = Failing({"layer.0": 0.001, "layer.1": 0.0001, "layer.2": 0.0001})
    search = search_of(trial, 0.01)
    best = search.run(RECIPE)
    assert search.attempts[0].reason == reason
    assert search.told()[0].drop in (None, 0.0)
    assert best is not None
    assert best.recipe.levels == {"layer.0": "float32"}


def test_a_full_disk_ends_the_search() -> None:
    """No other recipe would fit on it, and "over the budget" would be a wrong reason."""

    class Full(Additive):
        def evaluate(self, recipe: Recipe) -> Measured:
            raise QuantizeError("The disk is full.") from OSError(errno.ENOSPC, "No space left")

    with pytest.raises(QuantizeError, match="disk is full"):
        search_of(Full({"layer.0": 1.0, "layer.1": 1.0}), 0.01).run(RECIPE)


def test_other_errors_pass_through() -> None:
    """DATA that does not fit is nobody's recipe's fault."""

    class Wrong(Additive):
        def evaluate(self, recipe: Recipe) -> Measured:
            raise ConfigError("The label 7 is unknown.")

    with pytest.raises(ConfigError, match="label 7"):
        search_of(Wrong({"layer.0": 1.0}), 0.01).run(RECIPE)


def test_the_best_so_far_outlives_an_interrupt() -> None:
    """Ctrl-C passes through, and the cheapest verified candidate is still there."""

    class Interrupted(Additive):
        def evaluate(self, recipe: Recipe) -> Measured:
            if any(one.accepted for one in search.attempts):
                raise KeyboardInterrupt
            return super().evaluate(recipe)

    trial = Interrupted(dict.fromkeys(NAMES, 0.001))
    search = search_of(trial, 0.0301)
    with pytest.raises(KeyboardInterrupt):
        search.run(RECIPE)
    assert search.best is not None
    assert search.best.accepted
    assert search.told()[-1].taken


def test_a_search_is_the_same_each_time() -> None:
    """Ties are broken by the graph's order: same groups, same attempts."""

    def attempts() -> list[Attempt]:
        search = search_of(Additive(dict.fromkeys(NAMES, 0.001)), 0.0301)
        search.run(RECIPE)
        return search.attempts

    assert attempts() == attempts()


def test_tells_what_is_tried_and_the_best_so_far() -> None:
    """Each evaluation is announced, and its outcome told beside the best."""
    said: list[str] = []
    trial = Additive({"layer.0": 0.02, "layer.1": 0.001})
    search_of(trial, 0.005, progress=said.append).run(RECIPE)
    assert said[:2] == [
        "Evaluation 1 of at most 12: int8-dynamic (everything quantized)",
        "int8-dynamic: a drop of 2.10 points on 1,000,000 rows, 0% likely to pass"
        " (80% is enough), 0.0 MB; best within the budget: none yet",
    ]
    assert said[-1].endswith("best within the budget: int8-dynamic, layer.0 at float32")


def test_a_scheme_without_algorithms_is_only_raised() -> None:
    """Of 16-bit floats there is nothing to switch, and float32 is the only level above."""
    trial = Additive({"layer.0": 0.02, "layer.1": 0.001})
    costs = Costs({}, offered=("weight-int8", "float16", "float32"))
    found = search_of(trial, 0.005, costs=costs).run(Recipe("float16"))
    assert found is not None
    assert found.recipe == Recipe("float16", levels={"layer.0": "float32"})


def test_what_was_raised_before_stays_raised() -> None:
    """A recipe that comes with levels keeps them, and those groups are not ranked."""
    trial = Additive({"layer.0": 0.02, "layer.1": 0.02, "layer.2": 0.001})
    search = search_of(trial, 0.005)
    found = search.run(Recipe("int8-dynamic", levels={"layer.0": "float16"}))
    assert found is not None
    assert found.recipe.levels == {"layer.0": "float16", "layer.1": "float32"}
    assert search.sensitivity is not None
    assert {one.group for one in search.sensitivity.groups} == {"layer.1", "layer.2"}


def test_recipes_are_told_in_words() -> None:
    """The name of an attempt says what differs from the plain recipe."""
    recipe = Recipe(
        "int8-static", symmetric=True, calibrator="mse", reduce_range=True,
        levels={"a": "float32", "b": "float16", "c": "float32"},
    )  # fmt: skip
    assert describe(recipe) == (
        "int8-static, symmetric activations, ranges by mse, 7-bit weights, a at float32,"
        " b at float16, 1 more raised"
    )
    assert describe(Recipe("weight-int4", rounding="k-quant")) == "weight-int4, rounding by k-quant"


def test_groups_without_error_stay_quantized() -> None:
    """With all others raised there is still something quantized: a candidate like any."""
    trial = Additive({"layer.0": 0.02, "layer.1": 0.01, "layer.2": 0.0})
    search = search_of(trial, 0.005)
    found = search.run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.0": "float32", "layer.1": "float32"}


def test_a_graph_of_one_group_is_quantized_or_not() -> None:
    """There is nothing to raise without leaving floating point alone."""
    trial = Additive({"layer.0": 0.02})
    groups = (Group("layer.0", ("a",), "linear", 10),)
    search = search_of(trial, 0.005, groups=groups)
    assert search.run(RECIPE) is None
    assert all(recipe.levels == {} for recipe in trial.evaluated)


@pytest.mark.parametrize("metric", ["accuracy", "f1-binary", "auc", "matthews"])
def test_one_bad_layer_is_the_first_kept(metric: str) -> None:
    """Whatever the metric: the layer that quantizes badly, and it alone, is kept in float."""
    noise = {name: 2.5 if name == "layer.5" else 0.002 for name in NAMES[:12]}
    planted = Planted(noise, metric=metric, budget=Budget(0.01, "points"))
    search = Search(planted, planted.groups, planted.budget, verdict_samples=12000)
    found = search.run(RECIPE)
    assert search.sensitivity is not None
    assert search.sensitivity.groups[0].group == "layer.5"
    assert found is not None
    assert found.recipe.levels == {"layer.5": "float32"}


def test_a_metric_that_should_be_low_is_searched_like_others() -> None:
    """A mean absolute error that grows is a drop."""
    noise = {name: 2.5 if name == "layer.5" else 0.002 for name in NAMES[:12]}
    planted = Planted(noise, metric="mae", budget=Budget(0.1, "relative"))
    assert planted.drop(RECIPE, planted.search).value > 0.1
    found = Search(planted, planted.groups, planted.budget).run(RECIPE)
    assert found is not None
    assert found.recipe.levels == {"layer.5": "float32"}
