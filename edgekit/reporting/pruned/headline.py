"""The first ten seconds of a pruning's report: how much less, at what cost, how much faster."""

from __future__ import annotations

from edgekit.core.measurements import Accuracy
from edgekit.core.pruned import Change, PruneResult
from edgekit.reporting import words
from edgekit.reporting.deciding import noisy
from edgekit.reporting.figures import Headline, KeyFigure
from edgekit.reporting.phrases import (
    VERDICTS,
    about_accuracy,
    about_speed,
    drop_figure,
    over_budget,
    speed_figure,
    spelled_drop,
)
from edgekit.reporting.pruned.sensitivity import ALLOWED, by_structure, cost, within


def headline(result: PruneResult) -> Headline:
    """What stands on top of the report of a pruning, or of a sensitivity that was asked for."""
    if result.sensitivity and not result.goal:
        return _looked_at(result)
    badge, tone = VERDICTS[result.verdict]
    name = result.source if result.output is None else result.output.name
    title = name or "Pruned model"
    if not was_cut(result):
        sentence = f"Nothing was cut of {result.source or 'the original'}."
        return Headline(badge, tone, title, sentence, _reasons(result), ())
    accuracy, latency = result.accuracy, result.latency
    parts = [
        f"has {words.share(less(result.parameters))} fewer parameters",
        f"takes {words.share(less(result.flops))} fewer operations",
        *([] if accuracy is None else [about_accuracy(accuracy)]),
        *([] if latency is None else [about_speed(latency, noisy=noisy(result.noise))]),
    ]
    where = [] if accuracy is None else [_rows(accuracy)]
    if latency is not None:
        where.append(f"{result.engine} at {ran_at(result)}")
    told = f"; {', '.join(where)}" if where else ""
    sentence = f"{title} {words.listed(parts)}, against {result.source or 'the original'}{told}."
    if accuracy is None:
        sentence += " No data was given: its accuracy was not judged."
    return Headline(badge, tone, title, sentence, _reasons(result), _figures(result))


def was_cut(result: PruneResult) -> bool:
    """Whether there is a pruned model to tell of."""
    return result.output is not None or result.parameters.after != result.parameters.before


def less(change: Change) -> float:
    """The share that went."""
    return 1 - change.after / change.before if change.before else 0.0


def allowed_drop(result: PruneResult) -> float | None:
    """The budget of the drop, in the drop's own unit; None without one."""
    budget = result.goal.get("max_drop")
    if result.accuracy is None or not isinstance(budget, str):
        return None
    return spelled_drop(budget, result.accuracy)


def ran_at(result: PruneResult) -> str:
    """The workload that was timed and counted."""
    at = result.workload
    return words.ran_at(at.get("batch"), at.get("length"), at.get("threads"))


def _looked_at(result: PruneResult) -> Headline:
    """Of a sensitivity alone: how far each structure can be cut before it costs."""
    measure = cost(result.sensitivity)
    figures: list[KeyFigure] = []
    for structure, rows in by_structure(result.sensitivity).items():
        deepest = within(rows, measure)
        if deepest is None and measure.counted:
            first = rows[0]
            detail = f"cut by {_percent(first.ratio)}, {measure.said(measure.of(first))}"
            figures.append(KeyFigure(structure, "none", f"{detail} {measure.name}"))
            continue
        row = rows[-1] if deepest is None else deepest
        foretold = "" if row.speedup is None else f", {words.times(row.speedup)} as fast foretold"
        figures.append(
            KeyFigure(
                structure,
                _percent(row.ratio),
                f"{measure.said(measure.of(row))} {measure.name}{foretold}",
                "plain" if deepest is None else "good",
            )
        )
    sentence = "What each structure costs when it is cut alone, without recovery"
    if measure.counted:
        whole = f" ({measure.said(measure.whole)} in the original)" if measure.whole < 1 else ""
        sentence += (
            f": the figures are the deepest cuts that cost at most {ALLOWED * 100:g} point of what"
            f" is {measure.name}{whole}"
        )
    sentence += ". Measured on rows for choosing: it ranks structures, and proves nothing."
    return Headline(
        "Measured", "good", f"Sensitivity of {result.source or 'the original'}", sentence, (),
        tuple(figures),
    )  # fmt: skip


def _reasons(result: PruneResult) -> tuple[str, ...]:
    found: list[str] = []
    accuracy, latency, limit = result.accuracy, result.latency, allowed_drop(result)
    if not was_cut(result) and result.verdict == "fail":
        found.append("No cut was found that reaches the goal.")
    if accuracy is not None and limit is not None:
        found += over_budget(accuracy, limit)
    if latency is not None:
        wanted, speed = result.goal.get("speedup"), latency.speedup
        said = f"{words.times(speed.value)} ({words.interval(speed)})"
        if speed.high < 1:
            found.append(f"It is slower than the original: {said}.")
        if isinstance(wanted, (int, float)) and not speed.low >= wanted:
            goal = words.times(float(wanted))
            found.append(
                f"The speed-up of {goal} was not reached: measured is {said}."
                if speed.high < wanted
                else f"It is not proved that the speed-up of {goal} was reached: {said}."
            )
    if result.samples_needed and result.verdict == "inconclusive":
        found.append(f"About {result.samples_needed:,} samples would settle the accuracy.")
    if result.noise is not None and noisy(result.noise):
        causes = words.disturbed(result.noise)
        found.append(f"The machine was noisy while it was timed{causes}: no speed is decided.")
    if result.not_run is not None:
        found.append(f"Not timed on {result.target}: {result.not_run.rstrip('.')}.")
    return tuple(found)


def _figures(result: PruneResult) -> tuple[KeyFigure, ...]:
    found = [_fewer("Parameters", result.parameters), _fewer("Operations", result.flops)]
    accuracy, latency = result.accuracy, result.latency
    if accuracy is not None:
        found.append(drop_figure(accuracy, allowed_drop(result)))
    if latency is not None:
        found.append(speed_figure(latency, noisy=noisy(result.noise)))
    if result.predicted_speedup is not None:
        found.append(
            KeyFigure(
                "Foretold speed",
                words.times(result.predicted_speedup),
                words.foretold(result.predicted_speedup, latency) or "by the latency table",
            )
        )
    return tuple(found)


def _fewer(label: str, change: Change) -> KeyFigure:
    gone = less(change)
    return KeyFigure(
        label,
        f"−{words.share(gone)}" if gone >= 0 else f"+{words.share(-gone)}",
        f"{change.before:,} → {change.after:,}",
        "good" if gone > 0 else "plain",
    )


def _rows(accuracy: Accuracy) -> str:
    return f"{words.counted(accuracy.samples, 'row')} that nothing has seen"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
