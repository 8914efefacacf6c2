"""Whether a cut reaches its goal: what was measured of it against what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgekit.core.errors import MeasurementError
from edgekit.core.measurements import BenchResult, Verdict
from edgekit.evaluation import latency as timing
from edgekit.evaluation.accuracy import Evaluation
from edgekit.pipeline.cuts.goals import Goal
from edgekit.pipeline.rows import more_rows
from edgekit.reporting import words

ASK_LESS = "Ask for less, or allow more structures with --structure."


@dataclass(frozen=True)
class Missed:
    """Why a cut is not good enough, what to do, and how sure that is."""

    message: str
    hint: str
    verdict: Verdict


def missed(goal: Goal, evaluation: Evaluation | None, bench: BenchResult | None) -> Missed | None:
    """What a cut lacks; None where it has all that was asked for. A failure is told first.

    Raises MeasurementError where its speed could not be measured.
    """
    found = [*_speed(goal, bench), *_accuracy(goal, evaluation)]
    failed = [one for one in found if one.verdict == "fail"]
    return next(iter(failed or found), None)


def speed_notes(bench: BenchResult | None) -> list[str]:
    """What a person should know of a speed-up that passes."""
    latency = None if bench is None else timing.latency_of(bench)
    if latency is not None and latency.speedup.low <= 1 <= latency.speedup.high:
        return ["Whether it is faster than the original is not resolved."]
    return []


def _speed(goal: Goal, bench: BenchResult | None) -> Iterator[Missed]:
    latency = None if bench is None else timing.latency_of(bench)
    if bench is not None and latency is None:
        why = next((row.error for row in bench.contenders if row.error), "no reason")
        raise MeasurementError(
            f"The pruned model could not be measured against the original: {why}.",
            hint="Run it again on a quieter machine.",
        )
    if latency is None:
        return
    speed = f"{words.times(latency.speedup.value)} ({words.interval(latency.speedup)})"
    if latency.speedup.high < 1:
        told = f"The pruned model is slower than the original: {speed}."
        yield Missed(told, "Cut more, or other structures.", "fail")
    if goal.speedup is None or latency.speedup.low >= goal.speedup:
        return
    if latency.speedup.high < goal.speedup:
        told = f"--speedup {goal.speedup:g} was not reached: the best found is {speed}."
        yield Missed(told, ASK_LESS, "fail")
        return
    yield Missed(
        f"It is not proved that --speedup {goal.speedup:g} was reached: measured is {speed}.",
        "Run it again on a quieter machine, or ask for less.",
        "inconclusive",
    )


def _accuracy(goal: Goal, evaluation: Evaluation | None) -> Iterator[Missed]:
    if evaluation is None:
        return
    if evaluation.problem is not None:
        yield Missed(evaluation.problem, "Cut less.", "fail")
    if goal.budget is None or evaluation.verdict == "pass":
        return
    metric, drop = evaluation.accuracy.metric, words.drop(evaluation.accuracy)
    if evaluation.verdict == "fail":
        yield Missed(
            f"The pruned model misses the budget of {goal.budget}: it drops {metric} by {drop}.",
            "Cut less, allow more with --max-drop, or give more --data or --recover-steps.",
            "fail",
        )
        return
    yield Missed(
        f"It is not proved that the pruned model keeps the budget of {goal.budget}: it drops"
        f" {metric} by {drop}.",
        more_rows(evaluation.accuracy.samples_needed),
        "inconclusive",
    )
