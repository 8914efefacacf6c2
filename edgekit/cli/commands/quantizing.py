"""``edgekit quantize``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgekit.cli.commands._results import (
    accuracy_lines,
    latency_line,
    noise_lines,
    verdict_line,
)
from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import (
    BundlePath,
    budget,
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
from edgekit.core.measurements import QuantizeResult
from edgekit.reporting import words

# Rows of the terminal's tables; the JSON tells all.
_KEPT = 8
_TRIED = 20


@click.command("quantize")
@click.argument("bundle", type=BundlePath())
@output
@target(what="its engine and processor decide the recipe; see: edgekit targets.")
@click.option(
    "--method",
    type=click.Choice(["auto", "dynamic", "static", "weight-only", "float16", "bfloat16"]),
    default="auto",
    show_default=True,
    help="auto picks by the target, and with --data by what was measured.",
)
@click.option(
    "--bits", type=click.Choice(["4", "8", "16"]), help="Bits of a weight; the method's own."
)
@click.option(
    "--calibration",
    metavar="DATA",
    help="Samples that ranges are taken from, all of them; by default a tenth of --data.",
)
@data
@click.option(
    "--reference",
    metavar="SOURCE",
    help="The original model; with --data. An imported bundle is its own.",
)
@budget("The budget: 1% of the reference's metric (the default with --data), or 0.5pt.")
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Keep operators of this name in float."
)
@click.option("--component", metavar="NAME", help="Quantize this component alone.")
@click.option(
    "--sensitivity", is_flag=True, help="Rank what can be quantized by the error it makes."
)
@click.option("--allow-slower", is_flag=True, help="Accept a bundle that is slower than its input.")
@click.option("--keep", is_flag=True, help="Leave the best candidate where the budget is missed.")
@workload
@source_loading
@seed
@common
@pass_console
def command(
    console: Console,
    bundle: Path,
    output: Path,
    force: bool,
    target: str,
    engine: str | None,
    overrides: tuple[str, ...],
    method: str,
    bits: str | None,
    calibration: str | None,
    data: str | None,
    columns: str | None,
    metric: str | None,
    reference: str | None,
    max_drop: str | None,
    exclude: tuple[str, ...],
    component: str | None,
    sensitivity: bool,
    allow_slower: bool,
    keep: bool,
    batch: int | None,
    length: int | None,
    threads: int | None,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
) -> None:  # fmt: skip
    """Turn a bundle's weights and sums into 8, 4 or 16 bits, within an accuracy budget.

    With --data and --reference the metric may drop by --max-drop, proved on rows that no choice has
    seen: what costs too much accuracy is raised to more bits, until the budget holds. Without them
    the answers on the golden inputs are held to the tolerance of the precision.

    For a target that is not this machine the bundle is built, not run: its answers are judged on
    this machine's CPU, and its speed is not measured.

    Exit code 5 means that the budget is missed or cannot be proved, or that the result is slower
    than its input (inconclusive where the machine was noisy).
    """
    from edgekit.cli.commands._telling import tell
    from edgekit.pipeline.quantizing import quantize

    missed: EdgekitError | None = None
    try:
        result = quantize(
            bundle,
            output,
            target=target,
            engine=engine,
            overrides=overrides,
            method=method,
            bits=None if bits is None else int(bits),
            calibration=calibration,
            data=data,
            columns=columns,
            metric=metric,
            reference=reference,
            max_drop=max_drop,
            exclude=exclude,
            component=component,
            sensitivity=sensitivity,
            allow_slower=allow_slower,
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
        if not isinstance(error.result, QuantizeResult):
            raise
        missed, result = error, error.result
    tell(console, result, describe(result), missed)


def describe(result: QuantizeResult) -> str:
    """The verdict first, then what it rests on and what was tried."""
    run = result.output is None or result.run_on is not None
    lines = [
        verdict_line(
            result.verdict, target=result.target, run=run, by_data=result.accuracy is not None
        )
    ]
    # Without a candidate the error tells why, and what was tried is all there is.
    lines += _about(result) if result.bits else []
    lines += noise_lines(result.noise)
    lines += [f"note: {note}" for note in result.notes]
    for shown in (_kept(result), _sensitivity(result), _tried(result)):
        lines += ["", shown] if shown else []
    if result.output is not None:
        lines += ["", f"{result.output}: bundle {(result.bundle_id or words.NONE)[:12]}"]
        if result.target == "host":
            then = ["edgekit", "compile", str(result.output), "-o", f"{result.output}-fast"]
            lines.append(f"next: {shlex.join(then)}")
    return "\n".join(lines)


def _about(result: QuantizeResult) -> list[str]:
    """Method, size, accuracy, speed, operators, processor."""
    share = 1 / result.ratio_to_input if result.ratio_to_input else 0.0
    lines = [
        f"method: {_chosen(result)}, {result.bits} bits, for {result.engine} on {result.target}",
        f"size: {human_bytes(result.bytes)}, {words.digits(share)} times smaller than the input",
    ]
    if result.accuracy is not None:
        lines += accuracy_lines(
            result.accuracy, rows=" that no choice has seen", before="in the original"
        )
    if result.latency is not None:
        lines.append(
            latency_line(
                result.latency, result.workload, before="for the input", noise=result.noise
            )
        )
    else:
        lines.append(f"latency: not measured for {result.target}")
    counts = ", ".join(f"{count} {kind}" for kind, count in result.quantized_ops.items())
    lines.append(f"quantized: {counts or 'nothing'}")
    if result.cpu_features:
        lines.append(f"needs: {', '.join(result.cpu_features)}")
    return lines


def _chosen(result: QuantizeResult) -> str | None:
    """The method with the algorithms and layers that the search has settled on."""
    return next((tried.name for tried in result.tried if tried.taken), result.method)


def _kept(result: QuantizeResult) -> str:
    rows = [(kept.node, kept.reason) for kept in result.kept_float[:_KEPT]]
    more = len(result.kept_float) - len(rows)
    rows += [(f"and {more} more", "")] if more > 0 else []
    return table(("kept in float", "why"), rows) if rows else ""


def _sensitivity(result: QuantizeResult) -> str:
    """The groups by the error that each makes alone, and how well these foretell the whole."""
    found = result.sensitivity
    if not found:
        return ""
    groups = found.get("groups")
    rows = [
        (one["group"], one["kind"], f"{one['parameters']:,}", _error(one["error"]),
         None if one["share"] is None else words.share(one["share"]), one["note"] or "")
        for one in (groups if isinstance(groups, list) else [])
    ]  # fmt: skip
    header = ("quantized alone", "kind", "weights", str(found["measure"]), "share", "")
    return (
        f"{table(header, rows)}\nall together: {_error(found['predicted'])} foretold by the sum,"
        f" {_error(found['verified'])} measured"
    )


def _error(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else words.NONE


def _tried(result: QuantizeResult) -> str:
    rows = [
        (tried.name, None if tried.drop is None else f"{tried.drop * 100:.2f}",
         None if tried.bytes is None else human_bytes(tried.bytes),
         "taken" if tried.taken else tried.reason)
        for tried in result.tried[:_TRIED]
    ]  # fmt: skip
    points = result.accuracy is not None and result.accuracy.drop_unit == "points"
    drop = "drop on search rows, points" if points else "drop on search rows, %"
    return table(("tried", drop, "size", "why"), rows) if rows else ""
