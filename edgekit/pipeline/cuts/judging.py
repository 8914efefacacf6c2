"""From a cut to a verdict: recovery, export, accuracy, latency, and the folder that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.cachefolder import cache_folder
from edgekit.core.errors import BudgetNotMet, MeasurementError
from edgekit.core.hashing import canonical_json, sha256_bytes
from edgekit.core.measurements import BenchResult, Verdict
from edgekit.core.pruned import (
    Change,
    Cut,
    PruneResult,
    SensitivityRow,
    TablePoint,
)
from edgekit.evaluation import latency as timing
from edgekit.evaluation.accuracy import Evaluation
from edgekit.evaluation.statistics import DEFAULT_DROP, parse_drop
from edgekit.pipeline.cuts.begun import Begun, read_begun
from edgekit.pipeline.cuts.finding import Finder, Mended, told_plan
from edgekit.pipeline.cuts.goals import Goal
from edgekit.pipeline.cuts.material import Material
from edgekit.pipeline.cuts.placing import place
from edgekit.pipeline.cuts.shop import Maker
from edgekit.pipeline.cuts.telling import layers_left, recovery_facts
from edgekit.pipeline.cuts.verdicts import ASK_LESS, missed, speed_notes
from edgekit.pipeline.progress import Progress
from edgekit.pipeline.provenance import versions
from edgekit.pruning.checkpoints import Checkpoint
from edgekit.pruning.counting import count
from edgekit.pruning.recovery import Recovered, recover
from edgekit.pruning.structures import cut, layer_modules
from edgekit.reporting import words
from edgekit.sources.data import Samples
from edgekit.sources.pruned.plan import Plan, Structure

# Of an open goal so many cuts are recovered; those that answer otherwise on more than so many of a
# hundred rows, after least squares, are past saving.
_MOST_RECOVERED = 3
_LOST = 0.15
_LOST_WITHOUT = 0.04
# Of the budget a cut may use up so much on the rows for choosing: the verdict has to prove it.
_USED = 0.5
# What is measured at the end is an interval: its lower end should reach the goal.
_AIM = 1.04


@dataclass(frozen=True, eq=False)
class Judged:
    """A mended cut with all that was found of it."""

    mended: Mended
    bundle: Bundle | None
    recovery: Recovered | None
    evaluation: Evaluation | None = None
    bench: BenchResult | None = None


class Trial:
    """Brings cuts of one source to their verdict, and writes the one that passes."""

    def __init__(
        self,
        shop: Maker,
        material: Material,
        goal: Goal | None,
        structures: tuple[Structure, ...],
        method: str,
        *,
        metric: str | None,
        steps: int,
        seed: int,
        keep: bool,
        force: bool,
        output: Path | None,
        began: float,
        progress: Progress,
    ) -> None:
        self.finder: Finder | None = None
        self.sensitivity: tuple[SensitivityRow, ...] = ()
        self._shop = shop
        self._material = material
        self._goal = goal
        self._structures = structures
        self._method = method
        self._metric = metric
        self._steps = steps
        self._seed = seed
        self._keep = keep
        self._force = force
        self._output = output
        self._began = began
        self._progress = progress
        self._tried: list[Cut] = []
        self._recovered = 0
        self._table: tuple[TablePoint, ...] = ()
        self._notes: list[str] = []
        self._inputs = shop.workload_tensors()
        self._whole = count(material.source, self._inputs)
        self._checkpoint = Checkpoint(cache_folder() / "recovery" / f"recovery-{self._key()}")

    def begun(self) -> Mended | None:
        """The cut that an interrupted run of the same command was recovering, if any."""
        if not self._steps or self._goal is None or self._goal.open:
            return None
        found = read_begun(self._checkpoint)
        if found is None:
            return None
        self._progress(f"Going on with the cut that leaves {told_plan(found.plan)}")
        self._method = found.plan.method
        self._tried, self._table = list(found.tried), found.table
        self.sensitivity = found.sensitivity
        made = cut(self._material.source, found.plan)
        return Mended(found.plan, made, found.predicted, found.report)

    def note(self, text: str) -> None:
        """Have the result tell something."""
        self._notes.append(text)

    def reach(self, goal: Goal, begun: Mended | None) -> PruneResult:
        """The cut that reaches a ratio or a speed-up, judged. Raises BudgetNotMet."""
        mended = begun or self._find(goal)
        made = self._make(mended, resumed=begun is not None)
        return self._end(self._judge(made), goal)

    def largest(self, ladder: Sequence[float]) -> PruneResult:
        """The deepest cut of a ladder that keeps the budget. Raises BudgetNotMet.

        The rows for choosing choose it; that one alone is judged.
        """
        assert self.finder is not None
        assert self._goal is not None
        last: Judged | None = None
        at = 0
        known: list[Plan] = []
        for value in ladder:
            share = 1 - 1 / value if value > 1 else value
            mended = self.finder.find(share)
            if mended is None or mended.plan in known:
                continue
            known.append(mended.plan)
            lost = self._lost(mended)
            if lost is not None:
                self._note(mended, f"{lost:.1%} of the decisions are others: too many to recover")
                continue
            last = self._make(mended, resumed=False)
            self._recovered += 1
            too_much = self._spends(last)
            at = len(self._tried)
            self._note(mended, too_much or "within the budget on rows for choosing", last)
            if too_much is None or self._recovered >= _MOST_RECOVERED:
                break
        if last is None:
            raise BudgetNotMet(
                f"No cut of {', '.join(self._structures)} comes near the budget of"
                f" {self._goal.budget}.",
                hint="Allow more with --max-drop, or more --recover-steps.",
                result=self.result(verdict="fail"),
            )
        self._tried[at] = replace(self._tried[at], taken=True)
        return self._end(self._judge(last), self._goal)

    def result(
        self, *, verdict: Verdict, judged: Judged | None = None, output: Path | None = None
    ) -> PruneResult:
        """What there is to tell; of nothing but the original where nothing was judged."""
        finder = self.finder
        mended = None if judged is None else judged.mended
        counted = self._whole if mended is None else count(mended.source, self._inputs)
        evaluation = None if judged is None else judged.evaluation
        bench = None if judged is None else judged.bench
        accuracy = None if evaluation is None else evaluation.accuracy
        recovery = None if judged is None else judged.recovery
        plan = None if mended is None else mended.plan
        notes = [*self._notes, *([] if finder is None else finder.notes), *self._material.notes]
        if evaluation is not None:
            notes += evaluation.notes
        if recovery is not None and recovery.stopped is not None:
            notes.append(f"Recovery ended early: {recovery.stopped}.")
        return PruneResult(
            output=output,
            structures=self._structures if plan is None else plan.structures,
            parameters=Change(self._whole.parameters, counted.parameters),
            flops=Change(self._whole.flops, counted.flops),
            accuracy=accuracy,
            latency=None if bench is None else timing.latency_of(bench),
            verdict=verdict,
            method=self._method if finder is None else finder.method,
            target=self._shop.profile.name,
            engine=self._shop.profile.engine,
            goal={} if self._goal is None else self._goal.to_json(),
            predicted_speedup=None if mended is None else mended.predicted,
            layers=() if plan is None else layers_left(plan),
            table=self._table if finder is None else finder.table,
            repair=None if mended is None else mended.report,
            recovery=None if recovery is None else recovery_facts(recovery),
            sensitivity=self.sensitivity,
            tried=(*self._tried, *([] if finder is None else finder.tried)),
            workload={
                **self._shop.workload,
                "threads": self._shop.threads or cpu.available_threads(),
            },
            noise=None if bench is None else bench.noise,
            samples_needed=None if accuracy is None else accuracy.samples_needed,
            not_run=self._shop.elsewhere,
            notes=tuple(dict.fromkeys(notes)),
            seconds=round(time.monotonic() - self._began, 3),
            source=self._material.source.id,
        )

    def _find(self, goal: Goal) -> Mended:
        """The cut for a goal, aimed beyond a speed-up where it can be. Raises BudgetNotMet."""
        assert self.finder is not None
        if goal.speedup is None:
            found = self.finder.find(goal.ratio or 0.0)
        else:
            found = None
            for aim in (_AIM * goal.speedup, goal.speedup):
                found = found or self.finder.find(1 - 1 / aim, speedup=aim)
        if found is None:
            raise self._unreachable(goal, self.finder.deepest())
        return found

    def _make(self, mended: Mended, *, resumed: bool) -> Judged:
        """A mended cut recovered, and as a bundle."""
        recovery = self._recover(mended, resumed=resumed) if self._steps else None
        if self._shop.original is not None:
            self._progress("Exporting the pruned model, and comparing with PyTorch")
        return Judged(mended, self._shop.export(mended.source, "pruned"), recovery)

    def _judge(self, made: Judged) -> Judged:
        """What the rows for verdicts say, which nothing has seen, and the clock."""
        rows, evaluation = self._material.verdict, None
        if rows is not None:
            self._progress(f"Judging the pruned model on {len(rows):,} rows that nothing has seen")
            evaluation = self._evaluate(made, rows)
        return replace(made, evaluation=evaluation, bench=self._shop.compare(made.bundle))

    def _spends(self, made: Judged) -> str | None:
        """That a cut spends more of the budget on rows for choosing than leaves it provable."""
        rows = self._material.deciding
        if rows is None or self._goal is None or self._goal.budget is None:
            return None
        self._progress(f"Looking at the pruned model on {len(rows):,} rows for choosing")
        found = self._evaluate(made, rows)
        if found.problem is not None:
            return found.problem.rstrip(".")
        if found.accuracy.drop <= _USED * self._goal.budget.limit:
            return None
        dropped = words.hundredths(found.accuracy.drop, found.accuracy.drop_unit)
        return f"drops {found.accuracy.metric} by {dropped} on {len(rows):,} rows for choosing"

    def _recover(self, mended: Mended, *, resumed: bool) -> Recovered:
        checkpoint = None
        if self._goal is not None and not self._goal.open:
            checkpoint = self._checkpoint
            if not resumed:
                self._begin(mended)
        before, after = layer_modules(self._material.source), layer_modules(mended.source)
        kept = [before[at] for at in partners(mended.plan, len(before))] if before else []
        try:
            found = recover(
                self._material.source, mended.source, list(zip(kept, after, strict=True)),
                self._material.training, self._material.held,
                steps=self._steps, seed=self._seed, checkpoint=checkpoint,
                progress=self._progress,
            )  # fmt: skip
        except KeyboardInterrupt as stop:
            keeping = self._keep and self._output is not None
            again = ""
            if checkpoint is not None and read_begun(checkpoint) is not None:
                forced = " with --force" if keeping and not self._force else ""
                again = f" The same command{forced} goes on where it was interrupted."
            if not keeping:
                raise KeyboardInterrupt(f"Interrupted; nothing was left behind.{again}") from stop
            self._write(mended)
            raise KeyboardInterrupt(
                f"Interrupted; the best so far was left at {self._output}, not judged.{again}"
            ) from stop
        return found

    def _begin(self, mended: Mended) -> None:
        assert self.finder is not None
        begun = Begun(
            mended.plan, mended.predicted, mended.report, tuple(self.finder.tried),
            self.finder.table, self.sensitivity,
        )  # fmt: skip
        begun.write(self._checkpoint)

    def _evaluate(self, made: Judged, rows: Samples) -> Evaluation:
        budget = None if self._goal is None else self._goal.budget
        return self._shop.evaluate(
            made.mended.source, made.bundle, rows, metric=self._metric,
            budget=budget or parse_drop(DEFAULT_DROP), seed=self._seed,
        )  # fmt: skip

    def _end(self, judged: Judged, goal: Goal) -> PruneResult:
        """Write what passes; what does not only where it is to be kept. Raises BudgetNotMet."""
        try:
            lacking = missed(goal, judged.evaluation, judged.bench)
        except MeasurementError as error:
            error.hint = f"{error.hint}{self._again(judged)}"
            raise
        self._notes += speed_notes(judged.bench)
        left = None
        if lacking is None or self._keep:
            self._write(judged.mended)
            left = self._output
        if lacking is None or lacking.verdict == "fail":
            # What is open yet may be measured again without another recovery.
            self._checkpoint.forget()
        if lacking is None:
            return self.result(verdict="pass", judged=judged, output=left)
        hint = lacking.hint
        if lacking.verdict == "inconclusive":
            hint += self._again(judged, left)
        if left is not None:
            hint = f"{hint} The best found was left at {left}."
        raise BudgetNotMet(
            lacking.message,
            hint=hint,
            result=self.result(verdict=lacking.verdict, judged=judged, output=left),
        )

    def _again(self, judged: Judged, left: Path | None = None) -> str:
        """That the same command need not recover anew, where that is so."""
        if judged.recovery is None or read_begun(self._checkpoint) is None:
            return ""
        forced = " with --force" if left is not None and not self._force else ""
        return f" The same command{forced} goes on behind its recovery."

    def _lost(self, mended: Mended) -> float | None:
        """The share of decisions that a mended cut changes, where that is past saving."""
        found = self._material.held.judge(mended.source)
        if found.agreement is None:
            return None
        lost = 1 - found.agreement
        budget = 0.0 if self._goal is None or self._goal.budget is None else self._goal.budget.limit
        allowed = budget + (_LOST if self._steps else _LOST_WITHOUT)
        return lost if lost > allowed else None

    def _note(self, mended: Mended, reason: str, made: Judged | None = None) -> None:
        loss = None if made is None or made.recovery is None else made.recovery.after.loss
        self._tried.append(Cut(told_plan(mended.plan), mended.predicted, None, loss, False, reason))

    def _write(self, mended: Mended) -> None:
        assert self._output is not None
        self._progress(f"Writing {self._output}")
        place(
            self._material.source, mended.source, mended.plan, self._shop.folder, self._output,
            force=self._force,
        )  # fmt: skip

    def _unreachable(self, goal: Goal, deepest: float) -> BudgetNotMet:
        structures = ", ".join(self._structures)
        if goal.speedup is not None:
            told = (
                f"No cut of {structures} makes the model {goal.speedup:g} times as fast: by the"
                f" latency table the deepest is {words.times(1 / (1 - deepest))}."
            )
        else:
            told = (
                f"No cut of {structures} takes {goal.ratio:g} of their parameters away: the deepest"
                f" takes {deepest:.3g}."
            )
        return BudgetNotMet(told, hint=ASK_LESS, result=self.result(verdict="fail"))

    def _key(self) -> str:
        told = {
            "source": self._material.source.sha256,
            "structures": list(self._structures),
            "method": self._method,
            "goal": {} if self._goal is None else self._goal.to_json(),
            "rows": {role: list(rows) for role, rows in self._material.roles.items()},
            "target": self._shop.profile.to_json(),
            "workload": dict(self._shop.workload),
            "threads": self._shop.threads,
            "steps": self._steps,
            "seed": self._seed,
            "versions": dict(versions()),
        }
        return sha256_bytes(canonical_json(told))[:24]


def partners(plan: Plan, layers: int) -> list[int]:
    """For each layer that is left, the original's whose output it hands on.

    Layers that are gone behind it are its own part now, as in least squares.
    """
    return [end - 1 for end in (*plan.kept_layers, layers)[1:]]
