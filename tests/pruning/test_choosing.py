"""What to cut: the least loss for what has to be saved."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from edgekit.core.manifest import Origin
from edgekit.pruning.choosing import choose, droppable, largest_saving
from edgekit.pruning.costs import saved
from edgekit.pruning.importance import Scores
from edgekit.sources.pruned.plan import LayerPlan, Plan

HEADS, FFN, LAYERS = 4, 8, 3


@dataclass(frozen=True)
class Flat:
    """Every head saves 4, every neuron 1, every layer what is in it and 4 more."""

    whole: float = LAYERS * (4 * HEADS + FFN + 4)

    def heads(self, place: int, kept: int) -> float:
        return 4.0 * (HEADS - kept)

    def ffn(self, place: int, kept: int) -> float:
        return float(FFN - kept)

    def layer(self, place: int) -> float:
        return 4.0 * HEADS + FFN + 4


def plan() -> Plan:
    """Three layers of four heads and eight neurons, all kept."""
    rows = tuple(LayerPlan(f"layer.{at}", HEADS, FFN) for at in range(LAYERS))
    return Plan(
        Origin("m", "0"),
        Origin("m", "0"),
        "bert",
        "text-classification",
        layers=rows,
        kept_layers=(0, 1, 2),
    )


def rated(seed: int = 0) -> Scores:
    """Random importance; the middle layer changes the least."""
    random = np.random.default_rng(seed)
    return Scores(
        tuple(random.random(HEADS) * 4 for _ in range(LAYERS)),
        tuple(random.random(FFN) for _ in range(LAYERS)),
        np.array([0.9, 0.1, 0.5]),
        "fisher",
    )


@pytest.mark.parametrize("needed", [1.0, 7.0, 20.0, 40.0, 55.0])
def test_the_loss_is_the_least_of_all_plans(needed: float) -> None:
    """No choice of widths saves as much for less, by trying all of them."""
    scores, costs = rated(), Flat()
    found = choose(plan(), scores, costs, needed, ("heads", "ffn"))
    assert found is not None
    assert found.saved >= needed
    heads = [np.concatenate([[0.0], np.cumsum(np.sort(one))]) for one in scores.heads]
    ffn = [np.concatenate([[0.0], np.cumsum(np.sort(one))]) for one in scores.ffn]
    losses = {
        gone: sum(heads[at][h] for at, h in enumerate(gone[:3]))
        + sum(ffn[at][f] for at, f in enumerate(gone[3:]))
        for gone in product(*[range(HEADS)] * 3, *[range(FFN)] * 3)
    }

    def least(wanted: float) -> float:
        enough = (
            one for gone, one in losses.items() if 4 * sum(gone[:3]) + sum(gone[3:]) >= wanted
        )
        return float(min(enough))

    # Savings are counted in parts, and rounded down.
    assert least(needed) - 1e-9 <= found.loss <= least(min(needed * 1.005, 57.0)) + 1e-9


def test_what_stays_is_what_matters_most() -> None:
    """Of each layer the most important heads and neurons are kept, in their order."""
    scores = rated()
    found = choose(plan(), scores, Flat(), 30.0, ("heads", "ffn"))
    assert found is not None
    for at, row in enumerate(found.plan.layers):
        for kept, values in ((row.kept_heads, scores.heads[at]), (row.kept_ffn, scores.ffn[at])):
            if kept is None:
                continue
            assert list(kept) == sorted(kept)
            gone = set(range(len(values))) - set(kept)
            assert min(values[list(kept)]) >= max(values[list(gone)])


def test_only_what_is_asked_for_is_cut() -> None:
    """A structure that is not named stays whole, and the plan tells what was cut."""
    found = choose(plan(), rated(), Flat(), 10.0, ("ffn",))
    assert found is not None
    assert found.plan.structures == ("ffn",)
    assert all(row.kept_heads is None for row in found.plan.layers)


def test_more_than_there_is_cannot_be_saved() -> None:
    """Beyond the deepest cut there is no plan; up to it there is one."""
    deepest = largest_saving(plan(), rated(), Flat(), ("heads", "ffn"))
    assert choose(plan(), rated(), Flat(), deepest * 0.99, ("heads", "ffn")) is not None
    assert choose(plan(), rated(), Flat(), deepest * 1.01, ("heads", "ffn")) is None


def test_layers_that_change_least_go_first() -> None:
    """From none to as many as save enough by themselves, but never more than half."""
    assert droppable(plan(), rated(), Flat(), 20.0, ("layers",)) == [(), (1,)]
    assert droppable(plan(), rated(), Flat(), 500.0, ("layers",)) == [(), (1,)]
    assert droppable(plan(), rated(), Flat(), 20.0, ("heads",)) == [()]


def test_a_dropped_layer_counts() -> None:
    """What goes with a layer is not cut once more elsewhere."""
    found = choose(plan(), rated(), Flat(), 30.0, ("heads", "layers"), without=(1,))
    assert found is not None
    assert found.plan.kept_layers == (0, 2)
    assert found.plan.structures == ("heads", "layers")
    assert saved(Flat(), found.plan) == found.saved == pytest.approx(32.0)
