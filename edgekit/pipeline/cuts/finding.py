"""Finds the cut for a goal: plans are tried, mended, held to the original, and timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from edgekit.core.pruned import Cut, SensitivityRow, TablePoint
from edgekit.pipeline.cuts.material import Material
from edgekit.pipeline.cuts.shop import Maker
from edgekit.pipeline.progress import Progress
from edgekit.pruning.costs import count_parameters, measure_table
from edgekit.pruning.cutters import ChannelCutter, LayerCutter
from edgekit.pruning.importance import scores
from edgekit.pruning.reconstruction import repair
from edgekit.pruning.sensitivity import measure_sensitivity
from edgekit.pruning.structures import cut, layers_of
from edgekit.reporting import words
from edgekit.sources.pruned.cutting import whole_plan
from edgekit.sources.pruned.plan import Plan, Structure

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# What the table foretells is checked on whole cut models, on so many at most.
_CHECKS = 4
# Sets of dropped layers are compared after a mending on so many batches, and on one in so many
# where there are many small ones.
_FEW = 4
_ONE_IN = 4


@dataclass(frozen=True, eq=False)
class Mended:
    """A plan with its source, cut and mended; ``predicted`` is the speed-up of the table."""

    plan: Plan
    source: LoadedSource
    predicted: float | None
    report: dict[str, object] | None


@dataclass
class Finder:
    """Makes cuts of one source; it rates its parts and times its widths once."""

    shop: Maker
    material: Material
    structures: tuple[Structure, ...]
    method: str
    seed: int
    progress: Progress
    timed: bool
    tried: list[Cut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Rate what may be cut, and time it where the target is here."""
        source, calibration = self.material.source, self.material.calibration
        self.cutter: LayerCutter | ChannelCutter
        if self.structures == ("channels",):
            channels = ChannelCutter(source, calibration, self.method)
            self.cutter, self.method = channels, channels.used
            if self.timed:
                channels.time(self._time_all)
            return
        self.progress(f"Rating {', '.join(self.structures)}")
        rated = scores(
            source, calibration, self.structures, self.method, seed=self.seed,
            progress=self.progress,
        )  # fmt: skip
        self.method = rated.method
        self.notes += rated.notes
        whole = whole_plan(source)
        costs = (
            measure_table(whole, self.structures, self._time_all)
            if self.timed
            else count_parameters(layers_of(source).layers, self.structures)
        )
        self.cutter = LayerCutter(whole, rated, costs, self.structures)

    @property
    def table(self) -> tuple[TablePoint, ...]:
        """What was timed, as results tell it."""
        return tuple(
            TablePoint(one.kind, one.width, round(one.saved_ms, 4)) for one in self.cutter.points
        )

    def deepest(self) -> float:
        """The largest share that can be cut."""
        return self.cutter.deepest()

    def find(self, share: float, *, speedup: float | None = None) -> Mended | None:
        """The best cut that saves a share (of time, where `speedup` is wanted); None without one"""
        plans = [
            (without, plan)
            for without in self.cutter.sets(share)
            if (plan := self.cutter.plan(share, without)) is not None
        ]
        if not plans:
            return None
        without, plan = self._best(plans)
        if speedup is not None:
            plan = self._fast_enough(plan, without, speedup)
        self.progress(f"Mending the cut that leaves {told_plan(plan)}")
        made = cut(self.material.source, plan)
        report = self.mend(made, plan)
        return Mended(plan, made, self.cutter.speedup(plan), report)

    def mend(
        self, made: LoadedSource, plan: Plan, *, few: bool = False
    ) -> dict[str, object] | None:
        """Repair a cut source in place by least squares, where there is DATA; what came of it."""
        used = self.material.calibration
        if used is None:
            return None
        some = max(_FEW, len(used) // _ONE_IN)
        found = repair(self.material.source, made, plan, used[:some] if few else used)
        return {
            "solved": len(found.errors),
            "missing_before": found.before,
            "missing_after": found.after,
            "norms": found.norms,
            "seconds": found.seconds,
        }

    def sensitivity(self) -> tuple[SensitivityRow, ...]:
        """How far each structure by itself can be cut."""
        rows = measure_sensitivity(
            self.material.source, self.cutter, self.structures, self.material.held,
            lambda made, plan: self.mend(made, plan, few=True), progress=self.progress,
        )  # fmt: skip
        return tuple(
            SensitivityRow(
                row.structure, row.ratio, row.parameters, row.quality.loss, row.quality.agreement,
                row.quality.accuracy, row.speedup, row.quality.reference_accuracy,
            )
            for row in rows
        )  # fmt: skip

    def _best(self, plans: Sequence[tuple[tuple[int, ...], Plan]]) -> tuple[tuple[int, ...], Plan]:
        """Of plans with other layers gone, the one whose answers are nearest to the original's."""
        if len(plans) == 1:
            return plans[0]
        losses: list[float] = []
        for _, plan in plans:
            self.progress(f"Trying the cut that leaves {told_plan(plan)}")
            made = cut(self.material.source, plan)
            self.mend(made, plan, few=True)
            losses.append(self.material.held.judge(made).loss)
        # What is no number comes last.
        best = min(range(len(plans)), key=lambda at: (losses[at] != losses[at], losses[at]))
        for at, (_, plan) in enumerate(plans):
            self.tried.append(
                Cut(
                    told_plan(plan), self.cutter.speedup(plan), None, losses[at], at == best,
                    "nearest to the original" if at == best else "another one is nearer",
                )
            )  # fmt: skip
        return plans[best]

    def _fast_enough(self, plan: Plan, without: Sequence[int], wanted: float) -> Plan:
        """The plan of those timed by themselves that loses least and is fast enough.

        The quickest where none is.
        """
        timed: dict[Plan, float] = {}
        following: Plan | None = plan
        while following is not None:
            found = self._time_all({"whole": None, "cut": following})
            timed[following] = found["whole"] / found["cut"]
            left = _CHECKS - len(timed)
            following = (
                self.cutter.following(timed, wanted, without, last=left == 1) if left else None
            )
        enough = {one: quick for one, quick in timed.items() if quick >= wanted}
        # What the table foretells rises with what goes; what was timed also by chance.
        chosen = (
            min(enough, key=lambda one: (self.cutter.speedup(one) or 0.0, enough[one]))
            if enough
            else max(timed, key=timed.__getitem__)
        )
        for one, quick in timed.items():
            reason = "fast enough" if one == chosen else "less would do"
            if quick < wanted:
                reason = f"less than {words.digits(wanted)} times as fast"
            self.tried.append(
                Cut(told_plan(one), self.cutter.speedup(one), quick, None, one == chosen, reason)
            )
        return chosen

    def _time_all(self, plans: Mapping[str, Plan | None]) -> Mapping[str, float]:
        source = self.material.source
        return self.shop.time_all(
            {name: None if plan is None else partial(cut, source, plan)
             for name, plan in plans.items()}
        )  # fmt: skip


def told_plan(plan: Plan) -> str:
    """What a plan leaves, in a few words."""
    if plan.tensors:
        kept = sum(len(row.kept) for row in plan.tensors)
        return f"{kept / sum(row.size for row in plan.tensors):.0%} of the channels"
    rows = plan.left()
    heads, ffn = sum(row.heads_left for row in rows), sum(row.ffn_left for row in rows)
    whole_heads, whole_ffn = (
        sum(row.heads for row in plan.layers),
        sum(row.ffn for row in plan.layers),
    )
    return (
        f"{len(rows)} of {len(plan.layers)} layers, {heads} of {whole_heads} heads and {ffn:,} of"
        f" {whole_ffn:,} neurons"
    )
