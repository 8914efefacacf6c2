"""``edgekit prune``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from edgekit.cli.bars import listening
from edgekit.cli.commands._results import accuracy_lines, latency_line, noise_lines
from edgekit.cli.console import Console, command_line, table
from edgekit.cli.options import (
    budget,
    common,
    data,
    pass_console,
    report_files,
    seed,
    source_loading,
    source_reading,
    target,
    workload,
)
from edgekit.core.errors import EdgekitError
from edgekit.core.pruned import PruneResult
from edgekit.reporting import words
from edgekit.reporting.pruned import tables
from edgekit.reporting.tables import Table

# Rows of the terminal's tables; the JSON tells all.
_TRIED = 20
_LAYERS = 48


@click.command("prune")
@click.argument("source")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of the new source; with --sensitivity alone nothing is written.",
)
@click.option("--force", is_flag=True, help="Replace an existing pruned source, or reports.")
@click.option(
    "--structure",
    "structures",
    metavar="NAMES",
    help="Of heads, ffn, layers and channels, with commas; all that the model has by default.",
)
@click.option(
    "--ratio",
    type=float,
    metavar="SHARE",
    help="Cut this share (0.2) of the parameters of those structures.",
)
@click.option("--speedup", type=float, metavar="TIMES", help="Cut until it is so much faster.")
@budget("The budget: 1% of the metric, or 0.5pt (1% with --data); alone, the deepest cut in it.")
@target(what="its engine times the cuts; see: edgekit targets.")
@click.option(
    "--method",
    type=click.Choice(["auto", "fisher", "taylor", "activations", "magnitude"]),
    default="auto",
    show_default=True,
    help="How the importance of what may go is rated; auto is by gradients where there is DATA.",
)
@data
@click.option(
    "--recover-steps",
    type=int,
    metavar="N",
    help="Steps of distillation from the original: 3000 with --data, 0 of a model that generates;"
    " 0 is least squares alone.",
)
@click.option("--sensitivity", is_flag=True, help="Measure what each structure costs by itself.")
@source_reading
@click.option("--keep", is_flag=True, help="Leave the best where the goal is missed, or on Ctrl-C.")
@report_files
@workload
@source_loading
@seed
@common
@pass_console
def command(
    console: Console,
    source: str,
    output: Path | None,
    force: bool,
    structures: str | None,
    ratio: float | None,
    speedup: float | None,
    max_drop: str | None,
    target: str,
    engine: str | None,
    overrides: tuple[str, ...],
    method: str,
    data: str | None,
    columns: str | None,
    metric: str | None,
    recover_steps: int | None,
    sensitivity: bool,
    task: str | None,
    inputs: tuple[str, ...],
    processor: Path | None,
    keep: bool,
    html: Path | None,
    markdown: Path | None,
    batch: int | None,
    length: int | None,
    threads: int | None,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
) -> None:  # fmt: skip
    """Cut SOURCE down to a smaller PyTorch model that is measurably faster, and repair it.

    What goes is chosen by importance over measured time: the cut of least importance that reaches
    --speedup (or --ratio) on the target's engine. With --data what is left is mended by least
    squares and then learns from the original's answers; labels are not needed for that. It is
    judged, against the original, on rows that neither has seen.

    A model that generates texts is cut by --ratio, with or without texts as DATA, and judged by its
    perplexity; of one with an encoder and a decoder (T5, BART, Whisper) the encoder is cut.

    The result is a folder as SOURCE is: export, quantize and compile take it, and validate and
    bench hold it to the original. A recovery that was interrupted goes on when the same command is
    given again.

    Exit code 5 means that the goal or the budget is missed or cannot be proved, or that the result
    is slower than the original; 7 that --speedup cannot be measured on this machine.
    """
    from edgekit.cli.commands._telling import tell
    from edgekit.pipeline.pruning import prune
    from edgekit.reporting import require_reporting

    require_reporting(html, markdown, force=force)
    missed: EdgekitError | None = None
    try:
        with listening(console) as progress:
            result = prune(
                source,
                output,
                structures=[] if structures is None else _names(structures),
                ratio=ratio,
                speedup=speedup,
                max_drop=max_drop,
                target=target,
                engine=engine,
                overrides=overrides,
                method=method,
                data=data,
                columns=columns,
                metric=metric,
                recover_steps=recover_steps,
                sensitivity=sensitivity,
                task=task,
                inputs=inputs,
                processor=processor,
                keep=keep,
                batch=batch,
                length=length,
                threads=threads,
                revision=revision,
                trust_remote_code=trust_remote_code,
                force=force,
                seed=seed,
                progress=progress,
            )
    except EdgekitError as error:
        if not isinstance(error.result, PruneResult):
            raise
        missed, result = error, error.result
    then: list[str] = []
    if trust_remote_code or (":" in source and not Path(source).exists()):
        # A module of one's own is built by its code, pruned or not.
        then.append("--trust-remote-code")
    if processor is not None:
        then += ["--processor", str(processor)]
    result = replace(result, command=command_line())
    tell(console, result, describe(result, then), missed, html=html, markdown=markdown, force=force)


def describe(result: PruneResult, then: Sequence[str] = ()) -> str:
    """The verdict first, then what went, what it costs and gains, and what was tried.

    `then` are options that the next step needs to open what was written.
    """
    lines: list[str] = []
    if result.output is not None or result.parameters.after != result.parameters.before:
        lines += _about(result)
    elif not result.sensitivity:
        lines.append(f"verdict: {result.verdict}")
    lines += noise_lines(result.noise)
    lines += [f"note: {note}" for note in result.notes]
    for found, most in (
        (tables.sensitivity(result), None), (tables.layers(result), _LAYERS),
        (tables.tried(result), _TRIED),
    ):  # fmt: skip
        lines += [line for one in found for line in ("", _shown(one, most))]
    if result.output is not None:
        bundle = f"{result.output}-bundle"
        call = ["edgekit", "export", str(result.output), "-o", bundle, *then]
        lines += ["", str(result.output), f"next: {shlex.join(call)}"]
    return "\n".join(lines).strip("\n")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _about(result: PruneResult) -> list[str]:
    lines = [
        _verdict(result),
        f"cut: {', '.join(result.structures)}, rated by {result.method}",
        f"parameters: {tables.change(result.parameters)}",
        f"operations{_at(result)}: {tables.change(result.flops)}",
    ]  # fmt: skip
    if result.accuracy is not None:
        lines += accuracy_lines(
            result.accuracy,
            rows=" that nothing has seen",
            before="in the original",
            after="in the pruned model",
        )
    else:
        lines.append("accuracy: not judged, no --data was given")
    if result.latency is not None:
        lines.append(
            latency_line(
                result.latency, result.workload, before="for the original", noise=result.noise
            )
        )
    else:
        lines.append(f"latency: not measured for {result.target}")
    if result.predicted_speedup is not None:
        off = words.foretold(result.predicted_speedup, result.latency)
        told = words.times(result.predicted_speedup)
        lines.append(f"foretold by the latency table: {told}{f', {off}' if off else ''}")
    return [*lines, *_repair(result)]


def _verdict(result: PruneResult) -> str:
    """The first line; of what passes, what it has passed for."""
    if result.verdict != "pass":
        return f"verdict: {result.verdict}"
    if result.accuracy is None and result.latency is None:
        return (
            "verdict: cut as asked for; nothing was judged: no --data was given, and the speed on"
            f" {result.target} was not measured"
        )
    if result.accuracy is None:
        return "verdict: pass for its speed alone; without --data its accuracy was not judged"
    if result.latency is None:
        why = result.not_run or f"not run on {result.target}"
        return f"verdict: pass for its accuracy; its speed was not measured: {why}"
    return "verdict: pass"


def _repair(result: PruneResult) -> list[str]:
    """What was repaired, and how."""
    lines: list[str] = []
    mended, learnt = result.repair, result.recovery
    if mended is not None and mended.get("norms"):
        lines.append(f"repair: the statistics of {mended['norms']} batch norms were taken anew")
    if mended is not None and mended.get("solved"):
        before, after = (float(str(mended[f"missing_{when}"])) for when in ("before", "after"))
        lines.append(
            f"least squares: {words.share(before)} of the layers' sums were missing,"
            f" {words.share(after)} are now"
        )
    if learnt is not None:
        agreement = ""
        if learnt.agreement_before is not None and learnt.agreement_after is not None:
            agreement = (
                f", decisions as in the original {words.share(learnt.agreement_before)} →"
                f" {words.share(learnt.agreement_after)}"
            )
        lines.append(
            f"recovery: step {learnt.best_step:,} of {learnt.steps:,} kept, loss"
            f" {words.digits(learnt.loss_before)} → {words.digits(learnt.loss_after)}{agreement}"
        )
    return lines


def _at(result: PruneResult) -> str:
    at = words.ran_at(result.workload.get("batch"), result.workload.get("length"), None)
    return f" at {at}" if at else ""


def _shown(found: Table, most: int | None) -> str:
    """A table of the report, so many of its rows, with what stands under it."""
    return "\n".join([table(found.header, found.rows[:most]), *found.foot])
