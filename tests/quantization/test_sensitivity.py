"""Which groups pay for quantization: each alone, ranked by the error of the outputs."""

from __future__ import annotations

import errno
import json
import math

import pytest

from edgekit.core.errors import QuantizeError, SessionError
from edgekit.core.results import to_json
from edgekit.quantization.recipes import Recipe
from edgekit.quantization.sensitivity import alone, rank_groups
from tests.quantization.planted import Additive, Planted, groups_of

RECIPE = Recipe("int8-dynamic")
ERRORS = {"layer.0": 0.1, "layer.1": 0.4, "layer.2": 0.3, "layer.3": 0.3}


def test_ranks_groups_by_the_error_each_makes_alone() -> None:
    """Worst first; groups of one error in the graph's order; shares add up to one."""
    found = rank_groups(groups_of(4), RECIPE, Additive(ERRORS).error, "NMSE")
    assert [one.group for one in found.groups] == ["layer.1", "layer.2", "layer.3", "layer.0"]
    assert [one.share for one in found.groups] == pytest.approx([4 / 11, 3 / 11, 3 / 11, 1 / 11])
    assert found.predicted == found.verified == pytest.approx(1.1)
    assert {one.parameters for one in found.groups} == {1000}


def test_one_forward_for_each_group_and_one_for_the_whole() -> None:
    """The whole's error is not measured again where it is known."""
    trial = Additive(ERRORS)
    rank_groups(groups_of(4), RECIPE, trial.error, "NMSE")
    assert len(trial.errors) == 5
    assert trial.errors[0].levels == dict.fromkeys(list(ERRORS)[1:], "float32")
    assert trial.errors[-1] == RECIPE
    trial = Additive(ERRORS)
    found = rank_groups(groups_of(4), RECIPE, trial.error, "NMSE", verified=1.5)
    assert len(trial.errors) == 4
    assert (found.predicted, found.verified) == (pytest.approx(1.1), 1.5)


def test_the_sum_foretells_the_whole() -> None:
    """Of noises that know nothing of each other, in the divergence of a classifier."""
    model = Planted({f"layer.{number}": 0.05 + 0.01 * number for number in range(20)})
    found = rank_groups(model.groups, RECIPE, model.error, "KL")
    assert found.verified == pytest.approx(found.predicted, rel=0.25)


@pytest.mark.parametrize(
    "refused", [QuantizeError("No kernel."), SessionError("Not a graph."), math.nan, math.inf]
)
def test_a_group_that_fails_is_the_worst(refused: Exception | float) -> None:
    """It is the first to be raised, with the reason; sums stay comparable."""

    def error_of(recipe: Recipe) -> float:
        if "layer.2" in recipe.levels:
            return 0.1
        if isinstance(refused, Exception):
            raise refused
        return refused

    found = rank_groups(groups_of(3), RECIPE, error_of, "NMSE")
    worst = found.groups[0]
    assert (worst.group, worst.error, worst.share) == ("layer.2", math.inf, None)
    assert worst.note in ("No kernel.", "Not a graph.", "its answers are no numbers")
    assert found.verified == math.inf
    errors = found.errors()
    assert list(errors) == ["layer.2", "layer.0", "layer.1"]
    assert math.isfinite(errors["layer.2"])
    assert errors["layer.2"] > 100 * errors["layer.0"]


def test_a_full_disk_is_no_error_of_a_group() -> None:
    """It ends the ranking, whichever group was being written."""

    def error_of(recipe: Recipe) -> float:
        raise QuantizeError("The disk is full.") from OSError(errno.ENOSPC, "No space left")

    with pytest.raises(QuantizeError, match="disk is full"):
        rank_groups(groups_of(3), RECIPE, error_of, "NMSE")


def test_groups_that_are_raised_already_are_left_out() -> None:
    """They stay at their level while the others are ranked."""
    trial = Additive(ERRORS)
    recipe = Recipe("int8-dynamic", levels={"layer.1": "weight-int8"})
    found = rank_groups(groups_of(4), recipe, trial.error, "NMSE")
    assert [one.group for one in found.groups] == ["layer.2", "layer.3", "layer.0"]
    assert {asked.levels["layer.1"] for asked in trial.errors} == {"weight-int8"}


def test_one_group_at_a_level() -> None:
    """All others are in floating point; without a level the group is at the recipe's scheme."""
    groups = groups_of(3)
    levels = {"layer.0": "float32", "layer.2": "float32"}
    assert alone(RECIPE, groups, "layer.1").levels == levels
    levels["layer.1"] = "float16"
    assert alone(RECIPE, groups, "layer.1", "float16").levels == levels


def test_a_graph_without_groups_has_no_ranking() -> None:
    """Nothing is predicted, and the whole is verified all the same."""
    found = rank_groups((), RECIPE, lambda recipe: 0.25, "NMSE")
    assert (found.groups, found.predicted, found.verified) == ((), 0.0, 0.25)


def test_the_ranking_is_json() -> None:
    """Group, error, share, parameters, the predicted sum and the verified total."""
    found = rank_groups(
        groups_of(2), RECIPE, Additive({"layer.0": 0.3, "layer.1": 0.1}).error, "KL"
    )
    told = json.loads(json.dumps(to_json(found)))
    assert told["measure"] == "KL"
    assert told["predicted"] == told["verified"] == pytest.approx(0.4)
    assert told["groups"][0] == {
        "group": "layer.0", "kind": "linear", "parameters": 1000, "error": 0.3,
        "share": pytest.approx(0.75), "note": None,
    }  # fmt: skip


def test_tells_which_group_is_being_measured() -> None:
    """One line each."""
    said: list[str] = []
    rank_groups(groups_of(2), RECIPE, lambda recipe: 0.1, "KL", progress=said.append)
    assert said == [
        "Quantizing group 1 of 2 alone: layer.0",
        "Quantizing group 2 of 2 alone: layer.1",
    ]
