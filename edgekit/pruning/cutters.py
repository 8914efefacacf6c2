"""From a goal to plans: one cutter for the layers of transformers, one for the channels of CNNs."""

from __future__ import annotations

from bisect import bisect_left
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
    from edgekit.pruning.channels import RatedChannels
    from edgekit.pruning.feeding import Batch
    from edgekit.sources.loaded import LoadedSource

# The largest share of the channels that goes.
_MOST_CHANNELS = 0.8
# A network of few widths is timed at all of them, one of many at so many shares.
_FEW_WIDTHS = 32
_TIMED_SHARES = 6
# Of a share, for sums of rounded numbers.
_SLACK = 1e-9
# More than was wanted is asked for where a cut fell short, lest the next falls short again.
_MARGIN = 1.01


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

    def following(
        self, timed: Mapping[Plan, float], wanted: float, without: Sequence[int], *, last: bool
    ) -> Plan | None:
        """The plan to time by itself next, for a speed-up that is wanted; None where none is.

        ``timed`` are those that were, the latest last, with how many times as fast they are; `last`
        says that there will be no other after this one.
        """
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

    def following(
        self, timed: Mapping[Plan, float], wanted: float, without: Sequence[int], *, last: bool
    ) -> Plan | None:
        """See `Cutter`: a deeper one while none is fast enough. Layers add up as was foretold."""
        if max(timed.values()) >= wanted:
            return None
        asked = wanted
        for quick in timed.values():
            asked *= wanted / quick * _MARGIN
        # Heads and neurons go in pieces: a little more may be the same cut.
        while (plan := self.plan(1 - 1 / asked, without)) in timed:
            asked *= _MARGIN
        return plan

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
    """Channels of a convolutional network; of every group a share goes, the least important ones.

    A share that is asked for is one of the network's parameters, or of its time once `time` was
    called. ``method`` is what was asked for, `used` what rated the channels.
    """

    source: LoadedSource
    batches: Sequence[Batch] | None
    method: str
    milliseconds: Mapping[float, float] = field(default_factory=dict)
    _shares: dict[Plan, float] = field(default_factory=dict)
    _found: RatedChannels | None = None

    @property
    def used(self) -> str:
        """The method that rated the channels: never auto."""
        return self._rated.method

    def time(self, time_all: TimePlans) -> None:
        """Measure the time at some shares of channels: from then on shares are of the time."""
        # Between two steps no width changes, and nor does the time.
        shares = self._steps
        if len(shares) > _FEW_WIDTHS:
            places = np.linspace(0, len(shares) - 1, _TIMED_SHARES).round()
            shares = [shares[int(place)] for place in places]
        plans = {f"{share:g} of the channels": self._cut(share) for share in shares}
        found = time_all({"whole": None, **plans})
        times = {0.0: found["whole"]}
        for share, name in zip(shares, plans, strict=True):
            # What is left of noise: fewer channels never take longer.
            times[share] = min(found[name], *times.values())
        self.milliseconds = times

    def following(
        self, timed: Mapping[Plan, float], wanted: float, without: Sequence[int], *, last: bool
    ) -> Plan | None:
        """See `Cutter`: one between the deepest that is too slow and the least that is not.

        Time falls in steps, as engines compute channels in blocks: between two points of the table
        it may fall anywhere. Channels that need not go are accuracy.
        """
        found = {share: self.milliseconds[0.0] / ms for share, ms in self.milliseconds.items()}
        own = {self._shares[plan]: quick for plan, quick in timed.items()}
        found |= own
        steps = self._steps
        fast = min((share for share, quick in found.items() if quick >= wanted), default=steps[-1])
        slow = max(share for share, quick in found.items() if share < fast and quick < wanted)
        left = [share for share in steps if slow < share <= fast and share not in own]
        if not left:
            return None
        settled = max(own.values()) >= wanted
        return self._cut(left[-1] if last and not settled else left[(len(left) - 1) // 2])

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
        if share > self.deepest():
            return None
        if not self.milliseconds:
            return self._cut(self._channels_for(share))
        whole = self.milliseconds[0.0]
        saved = [1 - ms / whole for ms in self.milliseconds.values()]
        wanted = float(np.interp(share, saved, list(self.milliseconds)))
        steps = self._steps
        # The last of the steps is the deepest: what lies behind it is a rounded number.
        return self._cut(steps[min(bisect_left(steps, wanted - _SLACK), len(steps) - 1)])

    def speedup(self, plan: Plan) -> float | None:
        """See `Cutter`."""
        if not self.milliseconds or plan not in self._shares:
            return None
        shares, times = list(self.milliseconds), list(self.milliseconds.values())
        return times[0] / float(np.interp(self._shares[plan], shares, times))

    def deepest(self) -> float:
        """See `Cutter`."""
        if not self.milliseconds:
            return self._parameters(self._steps[-1])
        return 1 - min(self.milliseconds.values()) / self.milliseconds[0.0]

    def by_parameters(self) -> ChannelCutter:
        """A cutter of the same channels whose shares are those of parameters."""
        return replace(self, milliseconds={}, _found=self._rated)

    def saved(self, plan: Plan) -> float:
        """The share of the network's parameters that a plan takes away."""
        return self._rated.saved(plan)

    @property
    def _rated(self) -> RatedChannels:
        from edgekit.pruning.channels import rate_channels

        if self._found is None:
            self._found = rate_channels(self.source, self.batches, self.method)
        return self._found

    @property
    def _steps(self) -> list[float]:
        """The shares of channels at which more goes; there is always one."""
        return [share for share in self._rated.steps if share <= _MOST_CHANNELS]

    def _parameters(self, share: float) -> float:
        plan = self._rated.draft(share)
        return 0.0 if plan is None else self._rated.saved(plan)

    def _channels_for(self, parameters: float) -> float:
        """The least share of channels without which that share of the parameters is gone."""
        steps = self._steps
        return steps[bisect_left(steps, parameters, key=self._parameters)]

    def _cut(self, share: float) -> Plan | None:
        plan = self._rated.plan(share)
        if plan is not None:
            self._shares.setdefault(plan, share)
        return plan
