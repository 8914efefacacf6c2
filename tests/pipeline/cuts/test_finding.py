"""pipeline/cuts/finding.py: a cut for a speed-up that is foretold, timed, and learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.pipeline.cuts.finding import Finder
from edgekit.pruning import cutters
from edgekit.pruning.cutters import ChannelCutter, LayerCutter
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


@pytest.mark.parametrize("few", [16, 0], ids=["all widths timed", "two widths timed"])
@pytest.mark.parametrize("fall", [0.85, 0.75, 0.5, 0.35, 0.25])
def test_no_more_channels_go_than_the_speed_needs(
    fall: float, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where time falls at one width, the cut ends there: what is deeper costs accuracy only."""
    monkeypatch.setattr(cutters, "_FEW_WIDTHS", few)
    monkeypatch.setattr(cutters, "_TIMED_SHARES", 2)
    finder, shop = finder_of(tmp_path, fall)
    assert isinstance(finder.cutter, ChannelCutter)
    widths = [1 - finder.cutter._parameters(step) for step in finder.cutter._steps]
    assert len(widths) == 6
    found = finder.find(1 - 1 / 1.5, speedup=1.5)
    assert found is not None
    left = found.source.parameters / shop.whole
    assert left == pytest.approx(max(one for one in widths if one <= fall))
    (taken,) = [one for one in finder.tried if one.taken]
    assert taken.reason == "fast enough"
    assert taken.predicted_speedup == found.predicted
    # A table of all widths foretells what is measured; one of two is not asked to.
    if few:
        assert len(finder.tried) == 1
        assert found.predicted == pytest.approx(taken.speedup)
    else:
        assert len(finder.tried) > 1


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


def test_layers_are_cut_deeper_until_it_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    """By how much the cuts before fell short, and further where that is the same cut again."""
    asked: list[float] = []

    def plan(cutter: LayerCutter, share: float, without: tuple[int, ...]) -> str | None:
        asked.append(share)
        return None if share > 0.5 else f"{share:.1f}"

    monkeypatch.setattr(LayerCutter, "plan", plan)
    cutter: Any = LayerCutter(None, None, None, ())  # type: ignore[arg-type]
    assert cutter.following({"0.3": 1.5}, 1.5, (), last=False) is None
    assert cutter.following({"0.3": 1.4}, 1.5, (), last=False) == "0.4"
    assert cutter.following({"0.3": 1.49}, 1.5, (), last=False) == "0.4"
    assert asked[1:] == sorted(asked[1:])
    assert asked[0] == pytest.approx(1 - 1 / (1.5 * 1.5 / 1.4 * 1.01))
    assert cutter.following({"0.3": 1.2, "0.4": 1.2}, 1.5, (), last=False) is None
