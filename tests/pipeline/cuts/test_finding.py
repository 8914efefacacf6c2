"""pipeline/cuts/finding.py: a cut for a speed-up that is foretold, timed, and learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.pipeline.cuts.finding import Finder
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from tests.pruning.test_channels import network


class Steps:
    """A shop whose models take as long as their share of the parameters: a fall at one of them."""

    def __init__(self, whole: int, fall: float) -> None:
        self.whole = whole
        self.fall = fall
        self.asked: list[float] = []

    def time_all(
        self, sources: Mapping[str, Callable[[], LoadedSource] | None]
    ) -> dict[str, float]:
        """Ten, and four behind the fall; what is left counts a little, too."""
        found: dict[str, float] = {}
        for name, make in sources.items():
            left = 1.0 if make is None else make().parameters / self.whole
            found[name] = (10.0 if left > self.fall else 4.0) + left / 100
            if name == "cut":
                self.asked.append(left)
        return found


def finder_of(folder: Path, fall: float) -> tuple[Finder, Steps]:
    """A finder of channels over a small network."""
    source = open_source(network(folder))
    shop = Steps(source.parameters, fall)
    material: Any = SimpleNamespace(source=source, calibration=None)
    maker: Any = shop
    finder = Finder(
        shop=maker, material=material, structures=("channels",), method="magnitude", seed=0,
        progress=lambda text: None, timed=True,
    )  # fmt: skip
    return finder, shop


@pytest.mark.parametrize("fall", [0.75, 0.5, 0.3])
def test_no_more_channels_go_than_the_speed_needs(fall: float, tmp_path: Path) -> None:
    """Where time falls at one width, the cut ends there: what is deeper costs accuracy only."""
    finder, shop = finder_of(tmp_path, fall)
    found = finder.find(1 - 1 / 1.5, speedup=1.5)
    assert found is not None
    left = found.source.parameters / shop.whole
    assert left <= fall
    assert not any(left < other <= fall for other in shop.asked)
    taken = [one for one in finder.tried if one.taken]
    assert len(taken) == 1
    assert taken[0].speedup is not None
    assert found.predicted == pytest.approx(taken[0].speedup, rel=0.01)


def test_a_speed_that_is_not_reached(tmp_path: Path) -> None:
    """What was timed is taken, and told to be less than what was wanted."""
    finder, _ = finder_of(tmp_path, 0.0)
    plan = finder.cutter.plan(finder.deepest(), ())
    assert plan is not None
    finder._fast_enough(plan, (), 1.5)
    (only,) = finder.tried
    assert only.taken
    assert only.speedup == pytest.approx(1.0, abs=0.01)
    assert only.reason.startswith("less than 1.5")
