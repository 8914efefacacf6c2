"""From a cut to a verdict: recovery, export, accuracy, latency, and the folder that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.cachefolder import cache_folder
from edgekit.core.errors import BudgetNotMet, MeasurementError
from edgekit.core.hashing import canonical_json, sha256_bytes
from edgekit.core.measurements import BenchResult, Verdict
from edgekit.core.pruned import (
    Change,
    Cut,
    PrunedLayer,
    PruneResult,
    RecoveryFacts,
    SensitivityRow,
    TablePoint,
)
from edgekit.evaluation import latency as timing
from edgekit.evaluation.accuracy import Evaluation, evaluate
from edgekit.evaluation.remembering import remembering
from edgekit.evaluation.statistics import DEFAULT_DROP, parse_drop
from edgekit.pipeline.cuts.finding import Finder, Mended, told_plan
from edgekit.pipeline.cuts.goals import Goal
from edgekit.pipeline.cuts.material import Material
from edgekit.pipeline.cuts.placing import place
from edgekit.pipeline.cuts.shop import Shop
from edgekit.pipeline.progress import Progress
from edgekit.pipeline.provenance import versions
from edgekit.pipeline.rows import more_rows
from edgekit.pruning.checkpoints import Checkpoint
from edgekit.pruning.counting import count
from edgekit.pruning.recovery import Recovered, recover
from edgekit.pruning.structures import cut, layer_modules
from edgekit.reporting import words
from edgekit.sources.pruned.plan import Plan, Structure

if TYPE_CHECKING:
    pass

# Of an open goal so many cuts are recovered and judged; those that answer otherwise on more than so
# many of a hundred rows, after least squares, are past saving.
_MOST_JUDGED = 3
_LOST = 0.15
_LOST_WITHOUT = 0.04
_ASK_LESS = "Ask for less, or allow more structures with --structure."


@dataclass(frozen=True, eq=False)
class Judged:
    """A mended cut with all that was found of it."""

    mended: Mended
    bundle: Bundle
    recovery: Recovered | None
    evaluation: Evaluation | None
    bench: BenchResult | None


class Trial:
    """Brings cuts of one source to their verdict, and writes the one that passes."""

    def __init__(
        self,
        shop: Shop,
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
        self._table: tuple[TablePoint, ...] = ()
        self._notes: list[str] = []
        self._inputs = shop.workload_tensors()
        self._whole = count(material.source, self._inputs)
        self._reference = remembering(material.source)
        self._checkpoint = Checkpoint(cache_folder() / "recovery" / f"recovery-{self._key()}")

    def begun(self) -> Mended | None:
        """The cut that an interrupted run of the same command was recovering, if any."""
        if not self._steps or self._goal is None or self._goal.open:
            return None
        found = self._checkpoint.begun()
        if found is None:
            return None
        plan, facts = found
        self._progress(f"Going on with the cut that leaves {told_plan(plan)}")
        self._method = plan.method
        self._tried = [Cut(**row) for row in _rows(facts.get("tried"))]  # type: ignore[arg-type]
        self._table = tuple(TablePoint(**row) for row in _rows(facts.get("table")))  # type: ignore[arg-type]
        repair = facts.get("repair")
        return Mended(
            plan,
            cut(self._material.source, plan),
            _number(facts.get("predicted")),
            _number(facts.get("quick")),
            repair if isinstance(repair, dict) else None,
        )

    def reach(self, goal: Goal, begun: Mended | None) -> PruneResult:
        """The cut that reaches a ratio or a speed-up, judged. Raises BudgetNotMet."""
        mended, resumed = begun, begun is not None
        if mended is None:
            assert self.finder is not None
            share = 1 - 1 / goal.speedup if goal.speedup is not None else goal.ratio or 0.0
            mended = self.finder.find(share, speedup=goal.speedup)
            if mended is None:
                raise self._unreachable(goal, self.finder.deepest())
        judged = self._judge(mended, resumed=resumed)
        return self._end(judged, goal)

    def largest(self, ladder: Sequence[float]) -> PruneResult:
        """The deepest cut of a ladder that keeps the budget. Raises BudgetNotMet."""
        assert self.finder is not None
        assert self._goal is not None
        last: Judged | None = None
        count_judged = 0
        for value in ladder:
            share = 1 - 1 / value if value > 1 else value
            mended = self.finder.find(share)
            if mended is None:
                continue
            lost = self._lost(mended)
            if lost is not None:
                self._note(mended, f"{lost:.1%} of the decisions are others: too many to recover")
                continue
            last = self._judge(mended, resumed=False)
            count_judged += 1
            missed = self._missed(last, self._goal)
            if missed is None:
                break
            self._note(mended, missed[0])
            if count_judged >= _MOST_JUDGED:
                break
        if last is None:
            raise BudgetNotMet(
                f"No cut of {', '.join(self._structures)} comes near the budget of"
                f" {self._goal.budget}.",
                hint="Allow more with --max-drop, or more --recover-steps.",
                result=self.result(verdict="fail"),
            )
        return self._end(last, self._goal)

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
            layers=() if plan is None else _layers(plan),
            table=self._table if finder is None else finder.table,
            repair=None if mended is None else mended.report,
            recovery=None if recovery is None else _facts(recovery),
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
        )

    def _judge(self, mended: Mended, *, resumed: bool) -> Judged:
        recovery = self._recover(mended, resumed=resumed) if self._steps else None
        self._progress("Exporting the pruned model, and comparing with PyTorch")
        bundle = self._shop.export(mended.source, "pruned")
        return Judged(mended, bundle, recovery, self._evaluate(bundle), self._shop.compare(bundle))

    def _recover(self, mended: Mended, *, resumed: bool) -> Recovered:
        checkpoint = None
        if self._goal is not None and not self._goal.open:
            checkpoint = self._checkpoint
            if not resumed:
                checkpoint.begin(mended.plan, self._begun_facts(mended))
        before, after = layer_modules(self._material.source), layer_modules(mended.source)
        kept = [before[place] for place in mended.plan.kept_layers] if before else []
        try:
            found = recover(
                self._material.source, mended.source, list(zip(kept, after, strict=True)),
                self._material.training, self._material.held,
                steps=self._steps, seed=self._seed, checkpoint=checkpoint,
                progress=self._progress,
            )  # fmt: skip
        except KeyboardInterrupt as stop:
            again = (
                "" if checkpoint is None else " The same command goes on where it was interrupted."
            )
            if not self._keep or self._output is None:
                raise KeyboardInterrupt(f"Interrupted; nothing was left behind.{again}") from stop
            self._write(mended)
            raise KeyboardInterrupt(
                f"Interrupted; the best so far was left at {self._output}, not judged.{again}"
            ) from stop
        self._checkpoint.forget()
        return found

    def _begun_facts(self, mended: Mended) -> dict[str, object]:
        from edgekit.core.results import to_json

        assert self.finder is not None
        return {
            "predicted": mended.predicted,
            "quick": mended.quick,
            "repair": mended.report,
            "tried": to_json(tuple(self.finder.tried)),
            "table": to_json(self.finder.table),
        }

    def _evaluate(self, bundle: Bundle) -> Evaluation | None:
        rows = self._material.verdict
        if rows is None:
            return None
        budget = None if self._goal is None else self._goal.budget
        self._progress(f"Judging the pruned model on {len(rows):,} rows that nothing has seen")
        with self._shop.open(bundle) as model:
            return evaluate(
                model, self._reference, rows, metric=self._metric,
                max_drop=budget or parse_drop(DEFAULT_DROP), seed=self._seed,
                progress=self._progress,
            )  # fmt: skip

    def _end(self, judged: Judged, goal: Goal) -> PruneResult:
        """Write what passes; what does not only where it is to be kept. Raises BudgetNotMet."""
        missed = self._missed(judged, goal)
        self._tell_speed(judged, goal)
        left = None
        if missed is None or self._keep:
            self._write(judged.mended)
            left = self._output
        if missed is None:
            return self.result(verdict="pass", judged=judged, output=left)
        message, hint, verdict = missed
        if left is not None:
            hint = f"{hint} The best found was left at {left}."
        raise BudgetNotMet(
            message, hint=hint, result=self.result(verdict=verdict, judged=judged, output=left)
        )

    def _missed(self, judged: Judged, goal: Goal) -> tuple[str, str, Verdict] | None:
        """Why a cut is not good enough: what, what to do, and how sure that is."""
        latency = None if judged.bench is None else timing.latency_of(judged.bench)
        if judged.bench is not None and latency is None:
            why = next((row.error for row in judged.bench.contenders if row.error), "no reason")
            raise MeasurementError(
                f"The pruned model could not be measured against the original: {why}.",
                hint="Run it again; a recovery is not lost where --keep is given.",
            )
        if latency is not None:
            speed = f"{words.times(latency.speedup.value)} ({words.interval(latency.speedup)})"
            if latency.speedup.high < 1:
                told = f"The pruned model is slower than the original: {speed}."
                return told, "Cut more, or other structures.", "fail"
            if goal.speedup is not None and latency.speedup.high < goal.speedup:
                told = f"--speedup {goal.speedup:g} was not reached: the best found is {speed}."
                return told, _ASK_LESS, "fail"
        evaluation = judged.evaluation
        if evaluation is None:
            return None
        if evaluation.problem is not None:
            return evaluation.problem, "Cut less.", "fail"
        if goal.budget is None or evaluation.verdict == "pass":
            return None
        drop = words.drop(evaluation.accuracy)
        if evaluation.verdict == "fail":
            return (
                f"The pruned model misses the budget of {goal.budget}: it drops"
                f" {evaluation.accuracy.metric} by {drop}.",
                "Cut less, allow more with --max-drop, or give more --data or --recover-steps.",
                "fail",
            )
        return (
            f"It is not proved that the pruned model keeps the budget of {goal.budget}: it drops"
            f" {evaluation.accuracy.metric} by {drop}.",
            more_rows(evaluation.accuracy.samples_needed),
            "inconclusive",
        )

    def _tell_speed(self, judged: Judged, goal: Goal) -> None:
        latency = None if judged.bench is None else timing.latency_of(judged.bench)
        if latency is None:
            return
        if goal.speedup is not None and latency.speedup.value < goal.speedup:
            self._notes.append(
                f"The speed-up wanted, {goal.speedup:g}, lies within the interval of what was"
                " measured, above its middle."
            )
        if latency.speedup.low <= 1 <= latency.speedup.high:
            self._notes.append("Whether it is faster than the original is not resolved.")

    def _lost(self, mended: Mended) -> float | None:
        """The share of decisions that a mended cut changes, where that is past saving."""
        found = self._material.held.judge(mended.source)
        if found.agreement is None:
            return None
        lost = 1 - found.agreement
        budget = 0.0 if self._goal is None or self._goal.budget is None else self._goal.budget.limit
        allowed = budget + (_LOST if self._steps else _LOST_WITHOUT)
        return lost if lost > allowed else None

    def _note(self, mended: Mended, reason: str) -> None:
        self._tried.append(
            Cut(told_plan(mended.plan), mended.predicted, mended.quick, None, False, reason)
        )

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
        return BudgetNotMet(told, hint=_ASK_LESS, result=self.result(verdict="fail"))

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


def _layers(plan: Plan) -> tuple[PrunedLayer, ...]:
    kept = set(plan.kept_layers)
    return tuple(
        PrunedLayer(
            row.name,
            at in kept,
            Change(row.heads, row.heads_left if at in kept else 0),
            Change(row.ffn, row.ffn_left if at in kept else 0),
        )
        for at, row in enumerate(plan.layers)
    )


def _facts(found: Recovered) -> RecoveryFacts:
    return RecoveryFacts(
        found.steps, found.best_step, found.before.loss, found.after.loss,
        found.before.agreement, found.after.agreement, found.stopped, found.seconds,
    )  # fmt: skip


def _rows(value: object) -> list[Mapping[str, object]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
