"""Scenarios: what each of them needs, and what a child is told of it."""

from __future__ import annotations

import pytest

from edgekit.core.errors import ConfigError
from edgekit.runtime.scenarios import SCENARIOS, SPARSE_SECONDS, Scenario, make_scenario


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("single-stream", {}),
        ("server", {"qps": 12.5, "seed": 3}),
        ("sparse", {"interval": 0.5}),
        ("offline", {"streams": 2}),
        ("offline", {}),
    ],
)
def test_a_scenario_survives_its_record(name: str, options: dict[str, float]) -> None:
    """The child gets what the parent had."""
    made = make_scenario(name, **options)  # type: ignore[arg-type]
    assert Scenario.from_json(made.to_json()) == made
    assert made.name in SCENARIOS


def test_sparse_requests_have_a_usual_distance() -> None:
    """An edge app is asked every few seconds."""
    assert make_scenario("sparse").interval == SPARSE_SECONDS


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("burst", {}, "no scenario 'burst'"),
        ("server", {}, "needs to know how many"),
        ("server", {"qps": 0.0}, "--qps should be above 0"),
        ("server", {"qps": float("nan")}, "--qps should be above 0"),
        ("sparse", {"interval": -1.0}, "--interval should be above 0"),
        ("offline", {"streams": 0}, "--streams should be above 0"),
        ("single-stream", {"qps": 5.0}, "--qps belongs to the scenario server"),
        ("server", {"qps": 5.0, "interval": 1.0}, "--interval belongs to the scenario sparse"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    name: str, options: dict[str, float], told: str
) -> None:
    """By the option's name, before anything is measured."""
    with pytest.raises(ConfigError, match=told):
        make_scenario(name, **options)  # type: ignore[arg-type]


def test_a_turn_has_its_own_arrivals() -> None:
    """The same place gives every contender the same, another place others."""
    scenario = make_scenario("server", qps=1.0, seed=-7)
    assert scenario.turn(0, 1, 2) == scenario.turn(0, 1, 2)
    assert scenario.turn(0, 1, 2) != scenario.turn(0, 1, 3)
    assert scenario.turn(0).qps == 1.0


def test_only_busy_scenarios_have_a_throughput() -> None:
    """Where requests are waited for, mean times tell nothing about it."""
    steady = [name for name in SCENARIOS if Scenario(name).steady]
    assert steady == ["single-stream", "offline"]
