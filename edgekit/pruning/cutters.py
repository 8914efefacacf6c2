"""From a goal to plans: one cutter for the layers of transformers, one for the channels of CNNs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgekit.pruning.choosing import choose, droppable, largest_saving
from edgekit.pruning.costs import Costs, LatencyTable, Point, TimePlans, count_parameters
from edgekit.pruning.importance import Scores
from edgekit.pruning.structures import layers_of
from edgekit.sources.pruned.plan import Plan, Structure

if TYPE_CHECKING:
    from edgekit.pruning.feeding import Batch
    from edgekit.sources.loaded import LoadedSource

# Shares of the channels whose time is measured.
CHANNEL_SHARES = (0.2, 0.4, 0.6, 0.8)


class Cutter(Protocol):
    """Makes plans that save a share: of the time where there is a latency table, of parameters else

    ``points`` are what was measured for it.
    """

    points: tuple[Point, ...]

    def sets(self, share: float) -> list[tuple[int, ...]]:
        """Layers to go altogether, in sets that are worth trying."""
        ...

    def plan(self, share: float, without: Sequence[int]) -> Plan | None:
        """The plan of least loss that saves a share, without some layers; None where none does."""
        ...

    def speedup(self, plan: Plan) -> float | None:
        """How many times as fast a plan's model is foretold to be; None without a table."""
        ...

    def deepest(self) -> float:
        """The largest share that can be saved."""
        ...


@dataclass(frozen=True)
class LayerCutter:
    """Heads, neurons and layers of a transformer."""

    whole: Plan
    scores: Scores
    costs: Costs
    structures: tuple[Structure, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """See `Cutter`."""
        return self.costs.points if isinstance(self.costs, LatencyTable) else ()

    def sets(self, share: float) -> list[tuple[int, ...]]:
        """See `Cutter`."""
        needed = share * self.costs.whole
        return droppable(self.whole, self.scores, self.costs, needed, self.structures)

    def plan(self, share: float, without: Sequence[int]) -> Plan | None:
        """See `Cutter`."""
        found = choose(
            self.whole, self.scores, self.costs, share * self.costs.whole, self.structures,
            without=without,
        )  # fmt: skip
        return None if found is None else found.plan

    def speedup(self, plan: Plan) -> float | None:
        """See `Cutter`."""
        if not isinstance(self.costs, LatencyTable):
            return None
        return self.costs.whole / self.costs.predict(plan)

    def deepest(self) -> float:
        """See `Cutter`."""
        most = largest_saving(self.whole, self.scores, self.costs, self.structures)
        return min(most / self.costs.whole, 0.99)

    def by_parameters(self, source: LoadedSource, structure: Structure) -> LayerCutter:
        """A cutter of one structure alone, whose shares are those of its parameters."""
        costs = count_parameters(layers_of(source).layers, (structure,))
        return replace(self, costs=costs, structures=(structure,))


@dataclass
class ChannelCutter:
    """Channels of a convolutional network; a share of them goes, the least important ones."""

    source: LoadedSource
    batches: Sequence[Batch] | None
    method: str
    milliseconds: Mapping[float, float] = field(default_factory=dict)
    _shares: dict[Plan, float] = field(default_factory=dict)

    def time(self, time_all: TimePlans) -> None:
        """Measure the time at some shares: from then on shares are of the time."""
        plans = {str(share): self._cut(share) for share in CHANNEL_SHARES}
        found = time_all({"whole": None, **plans})
        times = {0.0: found["whole"]}
        for share in CHANNEL_SHARES:
            # What is left of noise: fewer channels never take longer.
            times[share] = min(found[str(share)], *times.values())
        self.milliseconds = times

    @property
    def points(self) -> tuple[Point, ...]:
        """See `Cutter`."""
        whole = self.milliseconds.get(0.0, 0.0)
        return tuple(
            Point("channels", round(100 * share), whole - ms)
            for share, ms in self.milliseconds.items()
            if share
        )

    def sets(self, share: float) -> list[tuple[int, ...]]:
        """See `Cutter`."""
        return [()]

    def plan(self, share: float, without: Sequence[int]) -> Plan | None:
        """See `Cutter`."""
        if not self.milliseconds:
            return self._cut(share)
        if share > self.deepest():
            return None
        whole = self.milliseconds[0.0]
        saved = [1 - ms / whole for ms in self.milliseconds.values()]
        return self._cut(float(np.interp(share, saved, list(self.milliseconds))))

    def speedup(self, plan: Plan) -> float | None:
        """See `Cutter`."""
        if not self.milliseconds or plan not in self._shares:
            return None
        shares, times = list(self.milliseconds), list(self.milliseconds.values())
        return times[0] / float(np.interp(self._shares[plan], shares, times))

    def deepest(self) -> float:
        """See `Cutter`."""
        if not self.milliseconds:
            return CHANNEL_SHARES[-1]
        return 1 - min(self.milliseconds.values()) / self.milliseconds[0.0]

    def _cut(self, share: float) -> Plan:
        from edgekit.pruning.channels import channel_plan

        plan = channel_plan(self.source, share, self.batches, self.method)
        self._shares[plan] = share
        return plan
