"""``edgekit build``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import (
    common,
    data,
    output,
    pass_console,
    seed,
    source_loading,
    target,
    workload,
)
from edgekit.core.errors import EdgekitError
from edgekit.core.measurements import BuildCandidate, BuildResult
from edgekit.reporting import words


@click.command("build")
@click.argument("source")
@output
@target(engine="all")
@click.option("--task", help="The task; inferred from the source by default.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=DTYPE:DIM,…",
    help="An input of a custom module.",
)
@data
@click.option("--calibration", metavar="DATA", help="Samples that ranges are taken from.")
@click.option("--metric", metavar="NAME|MODULE:FUNCTION", help="The metric of the budget.")
@click.option(
    "--max-drop", metavar="DROP", help="The budget: 1% (the default with --data), or 0.5pt."
)
@click.option(
    "--optimize-for",
    type=click.Choice(["latency", "throughput", "size"]),
    default="latency",
    show_default=True,
    help="What the best is best at.",
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
    data: str | None,
    columns: str | None,
    calibration: str | None,
    metric: str | None,
    max_drop: str | None,
    optimize_for: Literal["latency", "throughput", "size"],
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

    Exit code 5 means that no candidate keeps the budget.
    """
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
            data=data,
            columns=columns,
            calibration=calibration,
            metric=metric,
            max_drop=max_drop,
            optimize_for=optimize_for,
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
    if missed is None or not console.json_output:
        console.result(result, describe(result))
    if missed is not None:
        raise missed


def describe(result: BuildResult) -> str:
    """The verdict, the candidates with their reasons, what it took."""
    lines = [f"verdict: {result.verdict}"]
    found = result.validation
    if found is not None and found.accuracy is not None:
        accuracy = found.accuracy
        lines += [
            f"{accuracy.metric}: {words.metric(accuracy.reference)} in PyTorch,"
            f" {words.metric(accuracy.candidate)} in the bundle, {accuracy.samples:,} samples",
            f"drop: {words.drop(accuracy)}",
        ]
    if found is not None and found.latency is not None:
        speed = found.latency.speedup
        lines.append(
            f"latency: {words.milliseconds(found.latency.reference_ms)} in PyTorch,"
            f" {words.milliseconds(found.latency.candidate_ms)} in the bundle:"
            f" {words.times(speed.value)} ({words.interval(speed)})"
        )
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
        lines += ["", f"{result.output}: {result.chosen}, {result.output / 'report.html'}"]
    return "\n".join(lines)


def _became(candidate: BuildCandidate) -> str:
    """What became of a candidate; one that was made and not validated has no verdict to tell."""
    if candidate.chosen:
        return "chosen"
    judged = candidate.verdict == "fail" or candidate.accuracy is not None
    return candidate.verdict if judged else "not judged"
