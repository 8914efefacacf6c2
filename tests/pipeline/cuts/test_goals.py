"""Goals of a pruning: what says how much to cut, and what contradicts itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgekit.core.errors import ConfigError, EngineUnavailable
from edgekit.core.profiles import load_profile
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.cuts.goals import (
    Goal,
    check_folder,
    check_timed,
    check_unpruned,
    read_goal,
    read_structures,
)
from edgekit.sources.pruned.plan import PLAN_NAME
from tests.pipeline.cuts.plans import PLAN


def goal(**given: object) -> object:
    """The goal of some options."""
    options = {"ratio": None, "speedup": None, "max_drop": None, "data": None, **given}
    sensitivity = bool(options.pop("sensitivity", False))
    return read_goal(**options, sensitivity=sensitivity)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, math.nan])
def test_a_ratio_is_a_share(ratio: float) -> None:
    """All and nothing are no shares to cut."""
    with pytest.raises(ConfigError, match="--ratio is a share"):
        goal(ratio=ratio)


@pytest.mark.parametrize("speedup", [1.0, 0.5, -2.0, math.inf, math.nan])
def test_a_speedup_is_above_one(speedup: float) -> None:
    """What is not faster is no goal."""
    with pytest.raises(ConfigError, match="--speedup is above 1"):
        goal(speedup=speedup)


def test_two_ways_to_say_how_much_contradict() -> None:
    """Nobody knows which of them is meant."""
    with pytest.raises(ConfigError, match="both say how much"):
        goal(ratio=0.5, speedup=1.5)


def test_no_goal_is_told() -> None:
    """But for a look at the sensitivity, which cuts nothing."""
    with pytest.raises(ConfigError, match="Nothing says how much to cut"):
        goal()
    assert goal(sensitivity=True) is None


def test_a_budget_needs_data() -> None:
    """Without samples no drop can be judged."""
    with pytest.raises(ConfigError, match="needs --data"):
        goal(max_drop="1%")
    found = goal(max_drop="1%", data="d.csv")
    assert found is not None
    assert found.open  # type: ignore[attr-defined]
    assert found.to_json() == {  # type: ignore[attr-defined]
        "ratio": None, "speedup": None, "max_drop": "1%",
    }  # fmt: skip


def test_structures_are_those_of_the_model() -> None:
    """All of them by default, in one order; all there are for an unknown one."""
    assert read_structures([], ("heads", "ffn"), "m") == ("heads", "ffn")
    assert read_structures(["ffn", "heads"], ("heads", "ffn", "layers"), "m") == ("heads", "ffn")
    with pytest.raises(ConfigError, match="m has no channels") as caught:
        read_structures(["channels"], ("heads", "ffn"), "m")
    assert caught.value.hint == "It has heads, ffn."
    with pytest.raises(ConfigError, match="no structure 'head'") as caught:
        read_structures(["head"], ("heads", "ffn"), "m")
    assert "heads" in (caught.value.hint or "")


def test_a_speed_elsewhere_is_refused_with_the_remedy() -> None:
    """A ratio needs no measurement, a speed-up does."""
    profile = load_profile("cpu-arm64")
    assert check_timed(goal(ratio=0.5), profile) is not None  # type: ignore[arg-type]
    with pytest.raises(EngineUnavailable, match="cannot be measured here") as caught:
        check_timed(goal(speedup=1.5), profile)  # type: ignore[arg-type]
    assert "--attach" in (caught.value.hint or "")


def test_outputs_that_are_not_replaced(tmp_path: Path) -> None:
    """Only what pruning wrote goes, and only with --force; never the source."""
    check_folder(tmp_path / "new", "some/model", force=False)
    with pytest.raises(ConfigError, match="is the source"):
        check_folder(tmp_path, str(tmp_path), force=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="something other than a pruned model"):
        check_folder(other, "some/model", force=True)
    (other / PLAN_NAME).write_text("{}")
    with pytest.raises(ConfigError, match="exists"):
        check_folder(other, "some/model", force=False)
    check_folder(other, "some/model", force=True)


def test_data_brings_the_budget_of_everywhere() -> None:
    """One per cent, where nobody asks for another; without DATA nothing could judge it."""
    assert goal(speedup=1.5, data="d.csv") == Goal(None, 1.5, Budget(0.01, "relative"))
    assert goal(speedup=1.5, data="d.csv", max_drop="2pt") == Goal(
        None, 1.5, Budget(0.02, "points")
    )
    assert goal(speedup=1.5) == Goal(None, 1.5, None)


def test_what_was_pruned_is_not_pruned_again() -> None:
    """It would be held to itself; the original is named."""
    check_unpruned(None, "some/model")
    with pytest.raises(ConfigError, match="smaller has been pruned already, from m") as told:
        check_unpruned(PLAN, "smaller")
    assert told.value.hint is not None
    assert "Prune m instead" in told.value.hint
