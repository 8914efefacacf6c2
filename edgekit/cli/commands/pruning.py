"""``edgekit prune``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from edgekit.cli.commands._results import accuracy_lines, latency_line, noise_lines
from edgekit.cli.console import Console, table
from edgekit.cli.options import (
    common,
    data,
    pass_console,
    seed,
    source_loading,
    target,
    workload,
)
from edgekit.core.errors import EdgekitError
from edgekit.core.pruned import Change, PruneResult
from edgekit.reporting import words

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
@click.option("--force", is_flag=True, help="Replace an existing pruned source.")
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
@click.option(
    "--max-drop",
    metavar="DROP",
    help="The budget: 1% of the metric, or 0.5pt (1% with --data); alone, the deepest cut in it.",
)
@target(what="its engine times the cuts; see: edgekit targets.")
@click.option(
    "--method",
    type=click.Choice(["auto", "fisher", "taylor", "activations", "magnitude"]),
    default="auto",
    show_default=True,
    help="How the importance of what may go is rated; auto is by gradients where there is DATA.",
)
@data
@click.option("--metric", metavar="NAME|MODULE:FUNCTION", help="The metric of the budget.")
@click.option(
    "--recover-steps",
    type=int,
    metavar="N",
    help="Steps of distillation from the original: 2000 with --data; 0 is least squares alone.",
)
@click.option("--sensitivity", is_flag=True, help="Measure what each structure costs by itself.")
@click.option("--task", help="The task; inferred from the source by default.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=DTYPE:DIM,…",
    help="An input of a custom module.",
)
@click.option(
    "--processor",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="How a custom module's pictures are prepared and its outputs read, as JSON or TOML.",
)
@click.option("--keep", is_flag=True, help="Leave the best where the goal is missed, or on Ctrl-C.")
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
    perplexity.

    The result is a folder as SOURCE is: export, quantize and compile take it, and validate and
    bench hold it to the original. A recovery that was interrupted goes on when the same command is
    given again.

    Exit code 5 means that the goal or the budget is missed or cannot be proved, or that the result
    is slower than the original; 7 that --speedup cannot be measured on this machine.
    """
    from edgekit.cli.commands._telling import tell
    from edgekit.pipeline.pruning import prune

    missed: EdgekitError | None = None
    try:
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
            progress=console.status,
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
    tell(console, result, describe(result, then), missed)


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
    for shown in (_sensitivity(result), _layers(result), _tried(result)):
        lines += ["", shown] if shown else []
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
        f"parameters: {_change(result.parameters)}",
        f"operations{_at(result)}: {_change(result.flops)}",
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
        lines.append(f"foretold by the latency table: {words.times(result.predicted_speedup)}")
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
        return (
            "verdict: pass for its accuracy, on this machine; not run on"
            f" {result.target}, speed not measured"
        )
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


def _change(change: Change) -> str:
    less = 1 - change.after / change.before if change.before else 0.0
    return f"{change.before:,} → {change.after:,} ({words.share(less)} less)"


def _at(result: PruneResult) -> str:
    at = words.ran_at(result.workload.get("batch"), result.workload.get("length"), None)
    return f" at {at}" if at else ""


def _sensitivity(result: PruneResult) -> str:
    """What each structure costs by itself."""
    if not result.sensitivity:
        return ""
    rows = [
        (row.structure, words.share(row.ratio), f"{row.parameters:,}", words.digits(row.loss),
         None if row.agreement is None else words.share(row.agreement),
         None if row.accuracy is None else words.share(row.accuracy),
         None if row.speedup is None else words.times(row.speedup))
        for row in result.sensitivity
    ]  # fmt: skip
    header = ("cut alone", "share", "parameters", "loss", "as the original", "right", "foretold")
    return table(header, rows)


def _layers(result: PruneResult) -> str:
    rows = [
        (layer.name, _left(layer.heads), _left(layer.ffn))
        for layer in result.layers[:_LAYERS]
        if layer.kept
    ]
    gone = [layer.name for layer in result.layers if not layer.kept]
    rows += [(name, "gone", "") for name in gone]
    return table(("layer", "heads", "neurons"), rows) if rows else ""


def _left(change: Change) -> str:
    return f"{change.after:,} of {change.before:,}"


def _tried(result: PruneResult) -> str:
    rows = [
        (one.name, None if one.predicted_speedup is None else words.times(one.predicted_speedup),
         None if one.speedup is None else words.times(one.speedup),
         None if one.loss is None else words.digits(one.loss), one.reason)
        for one in result.tried[:_TRIED]
    ]  # fmt: skip
    return table(("tried", "foretold", "timed", "loss", "why"), rows) if rows else ""
