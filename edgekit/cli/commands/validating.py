"""``edgekit validate``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from edgekit.cli.bars import listening
from edgekit.cli.commands._results import accuracy_lines, latency_line
from edgekit.cli.console import Console, command_line, human_bytes, table
from edgekit.cli.options import (
    BundlePath,
    common,
    data,
    pass_console,
    reference_inputs,
    reports,
    seed,
    source_loading,
    timing,
)
from edgekit.core.errors import EdgekitError
from edgekit.core.measurements import ValidateResult
from edgekit.reporting import words
from edgekit.reporting.headline import allowed_drop, gate_values
from edgekit.reporting.tables import said, undisturbed

# Rows of the terminal's tables; reports and JSON tell more.
_LAYERS = 10
_CHANGED = 5


@click.command("validate")
@click.argument("bundle", type=BundlePath())
@click.option(
    "--reference",
    metavar="SOURCE",
    help="The original PyTorch model; of an imported one the ONNX file, or the imported bundle.",
)
@reference_inputs
@data
@click.option(
    "--metric",
    metavar="NAME|MODULE:FUNCTION",
    help="The metric: the task's own by default, or a function(predictions, labels).",
)
@click.option(
    "--max-drop",
    metavar="DROP",
    help="The budget: 1% of the reference's metric (the default), or 0.5pt, absolute."
    " Needs --data.",
)
@click.option("--min-speedup", type=float, help="Least speed against the original.")
@click.option("--max-latency-ms", type=float, help="Largest median latency.")
@click.option("--max-size-mb", type=float, help="Largest size of the model files.")
@click.option("--max-rss-mb", type=float, help="Largest peak memory above the imports.")
@click.option("--limit", type=click.IntRange(min=1), help="Judge at most so many samples.")
@click.option(
    "--layers",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Rank the tensors inside by their error against this exported bundle.",
)
@click.option(
    "--worst",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Write the samples on which the two differ most.",
)
@click.option(
    "--worst-count",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How many of them.",
)
@click.option("--no-latency", is_flag=True, help="Judge accuracy only.")
@timing(budget=20.0, sweep=False)
@click.option(
    "--record",
    is_flag=True,
    help="Write the evidence into the bundle's manifest; with --force also over evidence that"
    " rests on more rows.",
)
@click.option(
    "--allow-other-reference",
    is_flag=True,
    help="Compare with a model whose weights are not the bundle's origin.",
)
@source_loading
@seed
@reports
@common
@pass_console
def command(
    console: Console,
    bundle: Path,
    reference: str | None,
    inputs: tuple[str, ...],
    data: str | None,
    columns: str | None,
    metric: str | None,
    max_drop: str | None,
    min_speedup: float | None,
    max_latency_ms: float | None,
    max_size_mb: float | None,
    max_rss_mb: float | None,
    limit: int | None,
    layers: Path | None,
    worst: Path | None,
    worst_count: int,
    no_latency: bool,
    batch: int | None,
    length: int | Literal["data"] | None,
    threads: int | None,
    budget: float,
    processes: int,
    record: bool,
    allow_other_reference: bool,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
    html: Path | None,
    markdown: Path | None,
    force: bool,
) -> None:  # fmt: skip
    """Judge a bundle's accuracy and latency against the original model, in PyTorch eager float32.

    The original of an imported ONNX model is that model itself: an imported bundle needs no
    --reference, and of one made from it the answers that it holds are compared without.

    With --data the metric of the task may drop by --max-drop; without, the outputs on the bundle's
    golden inputs are held to the tolerance of its precision. Of DATA 70 % are for verdicts: the
    content of a row decides, so that no command judges what another one calibrated with.

    Unless --min-speedup is given, the gate not_slower holds: a bundle fails when the whole 95 %
    interval of its speed against the original lies below 1.

    A noisy run is reported and marked. A gate on time is inconclusive in it: neither missed nor,
    where you asked for it, passed. One that nobody asked for (not_slower, the target's latency)
    passes unless its interval lies against it, and a note says so.

    Exit code 0 means pass; 5 means that a budget or gate was missed or could not be decided.
    """
    from edgekit.cli.commands._telling import tell
    from edgekit.pipeline.validating import validate
    from edgekit.reporting import require_reporting

    require_reporting(html, markdown, force=force)
    missed: EdgekitError | None = None
    try:
        with listening(console) as progress:
            result = validate(
                bundle,
                reference=reference,
                data=data,
                columns=columns,
                metric=metric,
                max_drop=max_drop,
                min_speedup=min_speedup,
                max_latency_ms=max_latency_ms,
                max_size_mb=max_size_mb,
                max_rss_mb=max_rss_mb,
                limit=limit,
                layers=layers,
                worst=worst,
                worst_count=worst_count,
                latency=not no_latency,
                batch=batch,
                length=length,
                threads=threads,
                budget=budget,
                processes=processes,
                record=record,
                force=force,
                revision=revision,
                trust_remote_code=trust_remote_code,
                inputs=inputs,
                allow_other_reference=allow_other_reference,
                seed=seed,
                progress=progress,
            )
    except EdgekitError as error:
        if not isinstance(error.result, ValidateResult):
            raise
        missed, result = error, error.result
    result = replace(result, command=command_line())
    tell(console, result, describe(result), missed, html=html, markdown=markdown, force=force)


def describe(result: ValidateResult) -> str:
    """The verdict first, then what it rests on."""
    before = words.original(result.reference)
    lines = [f"verdict: {result.verdict}", *_about_accuracy(result)]
    timing = result.timing
    if result.latency is not None:
        row = timing.contenders[-1] if timing is not None and timing.contenders else None
        at = {} if row is None else {"batch": row.batch, "length": row.length}
        threads = None if timing is None else timing.protocol.get("threads")
        lines += [
            latency_line(
                result.latency,
                {**at, "threads": threads},
                before=before,
                noise=None if timing is None else timing.noise,
            ),
            f"  {words.turn_by_turn()}",
        ]
    size = result.size
    lines.append(
        f"size: {human_bytes(size.reference_bytes)} {before},"
        f" {human_bytes(size.candidate_bytes)} in the bundle"
    )
    if timing is not None:
        lines += words.noise(timing.noise)
        part = words.timed_part(timing.protocol)
        lines += [] if part is None else [part]
    lines += [f"note: {note}" for note in result.notes]
    for shown in (_numerics(result), _gates(result), _layers(result), _changed(result)):
        lines += ["", shown] if shown else []
    return "\n".join(lines)


def _about_accuracy(result: ValidateResult) -> list[str]:
    accuracy = result.accuracy
    if accuracy is None:
        return ["accuracy: no data given; the outputs were compared on the golden inputs"]
    name = result.data.get("name")
    lines = accuracy_lines(
        accuracy,
        budget=allowed_drop(result),
        rows=f" of {name}" if name else "",
        before=words.original(result.reference),
    )
    if accuracy.mcnemar_p is not None:
        lines.append(
            "McNemar's exact test of the samples that only one of the two has right:"
            f" p = {accuracy.mcnemar_p:.3g}"
        )
    return lines


def _numerics(result: ValidateResult) -> str:
    rows = [
        (name, f"{row.max_abs:.2e}", f"{row.mean_abs:.2e}", f"{row.cosine:.6f}",
         None if row.argmax_agreement is None else f"{row.argmax_agreement:.2%}",
         None if row.kl is None else f"{row.kl:.2e}")
        for name, row in result.numerics.items()
    ]  # fmt: skip
    header = ("output", "max |Δ|", "mean |Δ|", "cosine", "same decision", "KL, nats")
    return table(header, rows) if rows else ""


def _gates(result: ValidateResult) -> str:
    noisy = result.timing is not None and result.timing.noise.verdict == "noisy"
    rows = [
        (gate.name, *gate_values(gate, result), said(gate, noisy=noisy)) for gate in result.gates
    ]
    return table(("gate", "limit", "measured", "verdict"), rows) if rows else ""


def _layers(result: ValidateResult) -> str:
    rows = [
        (_end(layer.tensor, 48), layer.operator, f"{layer.sqnr_db:.1f}", f"{layer.max_abs:.2e}")
        for layer in result.layers[:_LAYERS]
    ]
    return table(("worst tensors inside", "operator", "SQNR dB", "max |Δ|"), rows) if rows else ""


def _changed(result: ValidateResult) -> str:
    rows = [
        (sample.row, _start(sample.reference, 20), _start(sample.candidate, 20),
         _start(sample.input, 44))
        for sample in [sample for sample in result.worst if sample.changed][:_CHANGED]
    ]  # fmt: skip
    if not rows:
        return undisturbed(result) or ""
    shown = table(("changed row", "original", "bundle", "input"), rows)
    more = sum(sample.changed for sample in result.worst) - len(rows)
    # The result holds the worst alone: of a bundle that changes many, more than are counted here.
    return f"{shown}\n… and more: --worst FILE.jsonl lists them." if more > 0 else shown


def _start(text: str, width: int) -> str:
    """One line of a text; what controls a terminal is shown, not done."""
    line = "".join(mark if mark.isprintable() else " " for mark in text)
    return line if len(line) <= width else line[: width - 1] + "…"


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]
