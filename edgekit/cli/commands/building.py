"""``edgekit build``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from edgekit.cli.commands._results import (
    accuracy_lines,
    latency_line,
    noise_lines,
    verdict_line,
)
from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import (
    budget,
    common,
    data,
    output,
    pass_console,
    seed,
    source_loading,
    source_reading,
    target,
    workload,
)
from edgekit.core.built import BuildCandidate, BuildResult
from edgekit.core.errors import EdgekitError
from edgekit.core.measurements import BenchResult
from edgekit.reporting import words


@click.command("build")
@click.argument("source")
@output
@target(engine="all")
@source_reading
@data
@click.option("--calibration", metavar="DATA", help="Samples that ranges are taken from.")
@budget("The budget: 1% (the default with --data), or 0.5pt.")
@click.option(
    "--optimize-for",
    type=click.Choice(["latency", "throughput", "size"]),
    default="latency",
    show_default=True,
    help="What the best is best at.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Try a pruned model too, and take it where it passes and is faster; needs --data.",
)
@workload
@click.option("--no-cache", is_flag=True, help="Make every step anew, and keep none.")
@source_loading
@seed
@common
@pass_console
def command(
    console: Console,
    source: str,
    output: Path,
    force: bool,
    target: str,
    engine: str | None,
    overrides: tuple[str, ...],
    task: str | None,
    inputs: tuple[str, ...],
    processor: Path | None,
    data: str | None,
    columns: str | None,
    calibration: str | None,
    metric: str | None,
    max_drop: str | None,
    optimize_for: Literal["latency", "throughput", "size"],
    prune: bool,
    batch: int | None,
    length: int | None,
    threads: int | None,
    no_cache: bool,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
) -> None:  # fmt: skip
    """Export, quantize, compile and validate SOURCE: the best bundle for a target, or none.

    Every precision that the target runs, on each of its engines, is a candidate. It has to keep the
    budget and to be faster than the next more exact one. The bundle carries its evidence, the whole
    result (report.json) and a page (report.html).

    For a target that is not this machine the profile's order of precisions decides, and speed is
    not measured. What only the target's device could open is judged with the same graph on this
    machine's CPU, where that has kernels for it: built, not run. Where it has none, the first
    candidate by the profile's order is left unjudged (exit code 0), unless DATA is given: a budget
    that nothing here can judge is not kept (exit code 5).

    A noisy run is reported and marked. A gate on time is inconclusive in it: neither missed nor,
    where you asked for it, passed. One that nobody asked for (not_slower, the target's latency)
    passes unless its interval lies against it, and a note says so.

    Exit code 5 means that no candidate keeps the budget, or that DATA has too few rows to prove it.
    """
    from edgekit.cli.commands._telling import tell
    from edgekit.pipeline.building import build

    missed: EdgekitError | None = None
    try:
        result = build(
            source,
            output,
            target=target,
            engine=engine,
            overrides=overrides,
            task=task,
            inputs=inputs,
            processor=processor,
            data=data,
            columns=columns,
            calibration=calibration,
            metric=metric,
            max_drop=max_drop,
            optimize_for=optimize_for,
            prune=prune,
            batch=batch,
            length=length,
            threads=threads,
            cache=not no_cache,
            revision=revision,
            trust_remote_code=trust_remote_code,
            force=force,
            seed=seed,
            progress=console.status,
        )
    except EdgekitError as error:
        if not isinstance(error.result, BuildResult):
            raise
        missed, result = error, error.result
    tell(console, result, describe(result), missed)


def describe(result: BuildResult) -> str:
    """The verdict, the candidates with their reasons, what it took."""
    found = result.validation
    accuracy = None if found is None else found.accuracy
    before = words.original({} if found is None else found.reference)
    lines = [
        f"verdict: none; built, not run on {result.target}, and nothing here can judge it"
        if found is None and result.output is not None and result.not_run is not None
        else verdict_line(
            result.verdict, target=result.target, run=result.not_run is None,
            by_data=accuracy is not None,
        )
    ]  # fmt: skip
    if accuracy is not None:
        lines += accuracy_lines(accuracy, before=before)
    if found is not None and found.latency is not None:
        noise = None if found.timing is None else found.timing.noise
        lines.append(
            latency_line(found.latency, _workload(found.timing), before=before, noise=noise)
        )
    elif found is not None:
        lines.append(f"latency: not measured for {result.target}")
    if found is not None and found.timing is not None:
        lines += noise_lines(found.timing.noise)
    lines += [f"note: {note}" for note in (*result.notes, *_own_notes(result))]
    rows = [
        (one.name, _became(one), human_bytes(one.bytes), one.reason) for one in result.candidates
    ]
    lines += ["", table(("candidate", "", "size", "why"), rows)] if rows else []
    steps = [
        (one.step, one.what, "cached" if one.cached else f"{one.seconds:.1f} s")
        for one in result.steps
    ]
    lines += ["", table(("step", "of", "took"), steps)] if steps else []
    if result.output is not None:
        page = "" if found is None else f", {result.output / 'report.html'}"
        lines += ["", f"{result.output}: {result.chosen}{page}"]
    return "\n".join(lines)


def _became(candidate: BuildCandidate) -> str:
    """What became of a candidate; one that was made and not validated has no verdict to tell."""
    if candidate.chosen:
        return "chosen"
    judged = candidate.verdict == "fail" or candidate.accuracy is not None
    return candidate.verdict if judged else "not judged"


def _workload(timing: BenchResult | None) -> dict[str, object]:
    """What was timed, as far as the measurement tells."""
    if timing is None or not timing.contenders:
        return {}
    row = timing.contenders[-1]
    return {"batch": row.batch, "length": row.length, "threads": timing.protocol.get("threads")}


def _own_notes(result: BuildResult) -> list[str]:
    """What the validation has to say, but for the candidates and the order: tables tell of them."""
    if result.validation is None:
        return []
    told = tuple(f"{one.name}: " for one in result.candidates)
    return [
        note
        for note in result.validation.notes
        if not note.startswith(told) and note not in result.notes
    ]
