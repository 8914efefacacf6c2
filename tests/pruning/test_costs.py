"""The latency table: few models tell of all widths."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edgekit.core.manifest import Origin
from edgekit.pruning.costs import LatencyTable, count_parameters, measure_table, saved, step_of
from edgekit.pruning.structures import cut, layers_of
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import whole_plan
from edgekit.sources.pruned.plan import LayerPlan, Plan

HEADS, FFN, LAYERS = 12, 1536, 6


def plan(layers: int = LAYERS) -> Plan:
    """A MiniLM, all kept."""
    rows = tuple(LayerPlan(f"layer.{at}", HEADS, FFN) for at in range(layers))
    origin = Origin("m", "0")
    return Plan(
        origin, origin, "bert", "text-classification", layers=rows, kept_layers=tuple(range(layers))
    )


def milliseconds(one: Plan) -> float:
    """A machine on which a head takes .1 ms, a neuron .001 and the rest of a layer .5."""
    return 1.0 + sum(0.5 + 0.1 * row.heads_left + 0.001 * row.ffn_left for row in one.left())


class Machine:
    """Times plans without running them, and counts them."""

    def __init__(self, whole: Plan) -> None:
        self.whole = whole
        self.timed: list[str] = []

    def __call__(self, plans: Mapping[str, Plan | None]) -> Mapping[str, float]:
        self.timed += plans
        return {name: milliseconds(one or self.whole) for name, one in plans.items()}


@pytest.mark.parametrize("layers", [2, 6])
def test_plans_are_foretold_from_a_few(layers: int) -> None:
    """Widths between those that were timed, and layers that go, cost what they take."""
    whole = plan(layers)
    machine = Machine(whole)
    table = measure_table(whole, ("heads", "ffn", "layers"), machine)
    assert len(machine.timed) <= 8
    rows = list(whole.layers)
    rows[0] = LayerPlan(rows[0].name, HEADS, FFN, tuple(range(7)), tuple(range(1000)))
    rows[1] = LayerPlan(rows[1].name, HEADS, FFN, (0,), tuple(range(64)))
    cut_plan = Plan(
        whole.origin,
        whole.base,
        "bert",
        "text-classification",
        layers=tuple(rows),
        kept_layers=whole.kept_layers,
    )
    assert table.predict(cut_plan) == pytest.approx(milliseconds(cut_plan))
    fewer = Plan(
        whole.origin,
        whole.base,
        "bert",
        "text-classification",
        layers=tuple(rows),
        kept_layers=(0,),
    )
    assert table.predict(fewer) == pytest.approx(milliseconds(fewer))


def test_noise_never_makes_a_narrower_layer_dearer() -> None:
    """What is saved rises as widths fall, whatever was measured."""

    def noisy(plans: Mapping[str, Plan | None]) -> Mapping[str, float]:
        return {name: 5.0 if name == "short" else 5.1 for name in plans}

    table = measure_table(plan(), ("heads", "ffn"), noisy)
    assert [table.ffn(0, width) for width in (1536, 1000, 500, 32)] == [0.0] * 4
    assert table.predict(plan()) == 5.1


def test_only_what_may_be_cut_is_timed() -> None:
    """A structure that nobody cuts needs no models."""
    machine = Machine(plan())
    measure_table(plan(), ("heads",), machine)
    assert not any(name.startswith("ffn") for name in machine.timed)


def test_widths_stay_what_engines_like() -> None:
    """Blocks of 32 for wide layers, of 8 for narrow ones, any for what has no blocks."""
    assert [step_of(width) for width in (1536, 256, 64, 100, 30)] == [32, 8, 8, 1, 1]


def test_parameters_are_those_that_a_cut_takes(classifier_source: object) -> None:
    """What a plan is said to save is missing from the model that it makes."""
    source = open_source(str(classifier_source))
    whole = whole_plan(source)
    costs = count_parameters(layers_of(source).layers, ("heads", "ffn", "layers"))
    rows = list(whole.layers)
    rows[0] = LayerPlan(rows[0].name, rows[0].heads, rows[0].ffn, (0, 2), tuple(range(5)))
    one = Plan(
        whole.origin, whole.base, whole.family, whole.task, layers=tuple(rows), kept_layers=(0,),
    )  # fmt: skip
    assert source.parameters - cut(source, one).parameters == saved(costs, one)


def test_a_table_tells_what_was_measured() -> None:
    """Its points are for a person: what each width saves."""
    table = measure_table(plan(), ("heads", "ffn", "layers"), Machine(plan()))
    assert isinstance(table, LatencyTable)
    assert [(point.kind, point.width) for point in table.points] == [
        ("layer", 0), ("heads", 2), ("heads", 6), ("heads", 12),
        ("ffn", 192), ("ffn", 768), ("ffn", 1152), ("ffn", 1536),
    ]  # fmt: skip
