"""Which candidate a quantization ends with, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.core.cpu import VNNI
from edgekit.core.errors import QuantizeError, SessionError
from edgekit.core.measurements import (
    Tried,
)
from edgekit.evaluation import latency as timing
from edgekit.evaluation import statistics
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.choices.candidates import Candidate, beyond_tolerance
from edgekit.pipeline.choices.chosen import Chosen
from edgekit.pipeline.choices.judging import Judge
from edgekit.pipeline.progress import Progress
from edgekit.pipeline.recording import measured_at
from edgekit.quantization.latency_table import latency_table
from edgekit.quantization.moves import Costs, levels_above
from edgekit.quantization.recipes import Group, Level, Prepared, Recipe
from edgekit.quantization.search import MOST, Search
from edgekit.quantization.sensitivity import Sensitivity, give_up, rank_groups
from edgekit.quantization.trials import describe as in_words
from edgekit.reporting import words
from edgekit.sources.data import Samples

# What the export itself may cost, as a part of the budget: the rest is quantization's.
_EXPORT_SHARE = 0.1
# Recipes whose times differ by less are alike: the more promising one goes first.
_ALIKE = 0.1


class Choice:
    """The way to one candidate. ``search`` is at hand while it runs, for who interrupts it."""

    def __init__(
        self,
        judge: Judge,
        recipes: Sequence[Recipe],
        prepared: Mapping[str, Prepared],
        progress: Progress,
    ) -> None:
        self.search: Search | None = None
        self._judge = judge
        self._workshop = judge.workshop
        self._prepared = prepared
        self._tried: list[Tried] = []
        self._recipes = [one for one in recipes if self._suits(one, prepared, progress)] or [
            *recipes[:1]
        ]
        self._groups: tuple[Group, ...] = tuple(
            group for one in prepared.values() for group in one.groups
        )
        self._progress = progress

    def make(self, *, sensitivity: bool) -> Chosen:
        """Choose; what was tried is told whatever comes of it."""
        budget = self._judge.budget
        chosen = self._by_tolerance() if budget is None else self._by_budget(budget)
        recipe = None if chosen.candidate is None else chosen.candidate.recipe
        calibrated = recipe is not None and recipe.needs_calibration
        chosen.notes += self._judge.rows.told(calibrated=calibrated)
        if chosen.candidate is not None and chosen.missed is None:
            self._look_without_vnni(chosen, chosen.candidate)
        if sensitivity and chosen.sensitivity is None and chosen.candidate is not None:
            recipe = replace(chosen.candidate.recipe, levels={})
            chosen.sensitivity = self._rank(recipe)
        return chosen

    def _look_without_vnni(self, chosen: Chosen, candidate: Candidate) -> None:
        """Refuse, for a target that may lack VNNI, what answers otherwise there than here."""
        seen = self._workshop.look_without_vnni(candidate, self._progress)
        if seen is None:
            return
        told, alike = seen
        chosen.notes.append(told)
        if not alike and self._workshop.profile.may_lack(VNNI):
            chosen.verdict, chosen.missed = "fail", told

    def _suits(self, recipe: Recipe, prepared: Mapping[str, Prepared], progress: Progress) -> bool:
        for one in prepared.values():
            reason = one.unsuited(recipe)
            if reason is not None:
                progress(f"Not tried: {in_words(recipe)}: {reason}")
                self._note(in_words(recipe), None, reason)
                return False
        return True

    def _supports(self, recipe: Recipe) -> bool:
        return all(one.supports(recipe) for one in self._prepared.values())

    def _rank(self, recipe: Recipe) -> Sensitivity:
        judge = self._judge
        return rank_groups(
            self._groups, recipe, judge.error, judge.measure, progress=self._progress
        )

    def _by_tolerance(self) -> Chosen:
        """The first recipe whose golden answers are near enough, and that is not slower.

        Raises ConfigError for a bundle without golden answers: nothing would prove anything.
        """
        self._workshop.golden_inputs()
        closest: Chosen | None = None
        for recipe in self._recipes:
            name = in_words(recipe)
            self._progress(f"Trying {name}")
            try:
                candidate = self._workshop.write(recipe)
            except (QuantizeError, SessionError) as refused:
                give_up(refused)
                if recipe is self._recipes[-1] and closest is None:
                    raise
                self._note(name, None, refused.message)
                continue
            far = beyond_tolerance(candidate, self._workshop.profile.tolerance)
            chosen = Chosen(candidate)
            if far is not None:
                chosen.verdict, chosen.missed = "fail", f"{far}."
            else:
                self._time(chosen, candidate)
            if chosen.missed is None:
                self._note(name, candidate, None)
                chosen.tried = tuple(self._tried)
                chosen.notes.append(
                    "No DATA was given: this rests on the golden answers alone, of"
                    f" {words.counted(self._workshop.golden_rows, 'sample')}. Pass --data and"
                    " --reference for a verdict on accuracy."
                )
                return chosen
            self._note(name, candidate, chosen.missed)
            closest = closest or chosen
        found = closest or Chosen(verdict="fail", missed="No recipe could be written.")
        found.tried = tuple(self._tried)
        return found

    def _by_budget(self, budget: Budget) -> Chosen:
        """The cheapest candidate within the budget on the rows of the search, then the verdict."""
        judge, workshop = self._judge, self._workshop
        search_rows, verdict_rows = judge.search_rows, judge.verdict_rows
        self._progress(
            f"Judging the bundle it is made of, unquantized, on {len(search_rows):,} rows"
        )
        floor = judge.on(judge.input_on_engine(), search_rows)
        # What pruning has taken counts against the budget, and is no fault of the export's: such a
        # bundle is hopeless only where nothing of the budget is left.
        share = 1.0 if workshop.pruned else _EXPORT_SHARE
        if floor.drop.low > share * budget.limit:
            return Chosen(
                verdict="fail",
                accuracy=floor.accuracy,
                tried=tuple(self._tried),
                missed=(
                    f"The input alone drops {floor.accuracy.metric} by more than"
                    f" {'' if workshop.pruned else 'a tenth of '}the budget of {budget}:"
                    f" {words.drop(floor.accuracy)}."
                ),
            )
        best = Chosen(verdict="fail", missed=f"{workshop.profile.name} has no recipe for it.")
        evaluations = 0
        searched: list[Recipe] = []
        waiting = self._fastest_first()
        while waiting:
            recipe = waiting.pop(0)
            if evaluations >= MOST:
                self._note(in_words(recipe), None, f"all {MOST} evaluations were used up")
                continue
            if _unswitched(recipe) in searched:
                # That search has tried its algorithms too, and found nothing.
                continue
            self.search = search = Search(
                judge,
                self._groups,
                budget,
                costs=self._costs,
                verdict_samples=len(verdict_rows),
                floor=floor.drop,
                samples=judge.rows.calibration is not None,
                most=MOST - evaluations,
                supports=self._supports,
                progress=self._progress,
            )
            found = search.run(recipe)
            evaluations += search.evaluations
            reason = search.impossible()
            if reason is not None:
                self._tried += search.told()
                best = Chosen(
                    verdict="inconclusive",
                    missed=f"The budget cannot be proved: {reason}.",
                    samples_needed=statistics.judge(floor.drop, budget)[1],
                )
                break
            if found is None:
                searched.append(_unswitched(recipe))
                self._tried += search.told()
                closest = search.closest
                if best.candidate is None:
                    best = Chosen(
                        None if closest is None else workshop.write(closest.recipe),
                        verdict="fail",
                        missed=f"No candidate was within the budget of {budget} on the search"
                        " rows.",
                        sensitivity=search.sensitivity,
                    )
                continue
            candidate = workshop.write(found.recipe)
            chosen = Chosen(candidate, sensitivity=search.sensitivity)
            self._time(chosen, candidate)
            self._tried += search.told(refused=chosen.missed)
            if chosen.missed is None:
                for other in waiting:
                    self._note(in_words(other), None, "not tried: a faster one keeps the budget")
                self._judge_verdict(chosen, candidate, verdict_rows)
                best = chosen
                break
            best = chosen
        best.tried, best.evaluations = tuple(self._tried), evaluations
        return best

    def _fastest_first(self) -> list[Recipe]:
        """The recipes by what they take at the workload; nearly as fast ones keep their order."""
        names = {str(number): recipe for number, recipe in enumerate(self._recipes)}
        if len(names) < 2:
            return list(self._recipes)
        self._progress("Timing the recipes against each other")
        # Each is searched from right after, or once it is its turn.
        self._workshop.keep(self._recipes)
        found = self._judge.time_all(names)
        if not found:
            return list(self._recipes)
        fastest = min(found.values())
        return [
            names[name]
            for name in sorted(names, key=lambda name: round((found[name] / fastest - 1) / _ALIKE))
        ]

    def _judge_verdict(self, chosen: Chosen, candidate: Candidate, rows: Samples) -> None:
        """The last word, on rows that no choice has seen."""
        judge = self._judge
        self._progress(f"Judging it on {len(rows):,} rows that no choice has seen")
        found = judge.on(candidate.bundle, rows)
        chosen.accuracy, chosen.verdict = found.accuracy, found.verdict
        chosen.notes += found.notes
        if found.verdict != "pass":
            word = "is over" if found.verdict == "fail" else "is not proved to be within"
            chosen.missed = found.problem or (
                f"The drop in {found.accuracy.metric} ({words.drop(found.accuracy)}) {word}"
                f" the budget of {judge.budget} on the rows that no choice has seen."
            )

    def _costs(self, recipe: Recipe) -> Costs:
        """The measured latency table, or what the sizes tell where it cannot be measured."""
        if not self._groups:
            return Costs({})
        levels = [level for level in levels_above(recipe) if self._offers(recipe, level)]
        self._progress("Measuring what it costs to keep groups in more bits")
        table = latency_table(self._groups, recipe, levels, self._timed)
        return Costs(table, offered=tuple(levels))

    def _offers(self, recipe: Recipe, level: Level) -> bool:
        """Whether groups of a recipe can be at a level: not every engine mixes everything."""
        if level == "float32":
            return True
        levels = {**recipe.levels, self._groups[0].name: level}
        try:
            self._workshop.forget(self._workshop.write(replace(recipe, levels=levels)))
        except QuantizeError as refused:
            give_up(refused)
            return False
        return True

    def _timed(self, recipes: Mapping[str, Recipe]) -> Mapping[str, float]:
        return self._judge.time_all(recipes)

    def _time(self, chosen: Chosen, candidate: Candidate) -> None:
        """Refuse a candidate that is resolved slower than its input."""
        result = self._judge.against_input(candidate)
        name = self._workshop.profile.name
        if result is None:
            why = self._workshop.elsewhere
            chosen.notes.append(f"Its speed on {name} is not measured: {why}.")
            return
        chosen.latency = timing.latency_of(result)
        chosen.workload, chosen.noise = measured_at(result), result.noise
        allowed = self._judge.allow_slower
        if chosen.latency is None:
            reason = next((row.error for row in result.contenders if row.error), "no ratio came")
            told = f"Its speed could not be measured: {reason.rstrip('.')}."
            if allowed:
                chosen.notes.append(told)
            else:
                chosen.slower, chosen.verdict, chosen.missed = True, "inconclusive", told
            return
        speed = chosen.latency.speedup
        told = f"{words.times(speed.value)}, {words.interval(speed)}"
        if speed.high < 1 and not allowed and result.noise.verdict == "noisy":
            # As every gate on time of a noisy run.
            chosen.slower, chosen.verdict = True, "inconclusive"
            chosen.missed = (
                f"The run was noisy: that it is slower than its input ({told}) is inconclusive."
            )
        elif speed.high < 1 and not allowed:
            chosen.slower, chosen.verdict = True, "fail"
            chosen.missed = f"It is slower than its input: {told}."
        elif speed.high < 1:
            chosen.notes.append(f"It is slower than its input, which was allowed: {told}.")
        elif speed.low <= 1:
            chosen.notes.append(f"Its speed is not resolved from its input's: {told}.")

    def _note(self, name: str, candidate: Candidate | None, reason: str | None) -> None:
        self._tried.append(
            Tried(
                name, None, None if candidate is None else candidate.bytes, reason is None,
                (reason or "the first within the tolerance").rstrip("."),
            )
        )  # fmt: skip


def _unswitched(recipe: Recipe) -> Recipe:
    """The recipe without the algorithms that every search switches between."""
    return replace(recipe, smooth=None, correction="none", rounding="nearest")
