"""``edgekit validate``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import common, data, pass_console, seed, source_loading
from edgekit.core.errors import BudgetNotMet
from edgekit.core.results import Gate, ValidateResult


@click.command("validate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--reference", required=True, metavar="SOURCE", help="The original PyTorch model.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=DTYPE:DIM,…",
    help="An input of a custom reference; the bundle's own by default.",
)
@data
@click.option("--metric", metavar="NAME", help="The metric; the task's own by default.")
@click.option(
    "--max-drop",
    default="1%",
    show_default=True,
    metavar="DROP",
    help="The budget: 1% of the reference's metric, or 0.5pt, absolute.",
)
@click.option("--min-speedup", type=float, help="Least speed against PyTorch eager.")
@click.option("--max-latency-ms", type=float, help="Largest median latency.")
@click.option("--max-size-mb", type=float, help="Largest size of the model files.")
@click.option("--max-rss-mb", type=float, help="Largest peak memory above the imports.")
@click.option("--limit", type=click.IntRange(min=1), help="Judge so many of the verdict rows.")
@click.option("--no-latency", is_flag=True, help="Judge accuracy only.")
@click.option("--batch", type=click.IntRange(min=1), help="Batch of the timing; the bundle's own.")
@click.option("--length", type=click.IntRange(min=1), help="Tokens of the timing.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of both models.")
@click.option(
    "--budget",
    type=float,
    default=20.0,
    show_default=True,
    help="Seconds of timing in all, start-up of the processes excluded.",
)
@click.option("--record", is_flag=True, help="Write the evidence into the bundle's manifest.")
@click.option(
    "--allow-other-reference",
    is_flag=True,
    help="Compare with a model whose weights are not the bundle's origin.",
)
@source_loading
@seed
@common
@pass_console
def command(
    console: Console,
    bundle: Path,
    reference: str,
    inputs: tuple[str, ...],
    data: str | None,
    columns: str | None,
    metric: str | None,
    max_drop: str,
    min_speedup: float | None,
    max_latency_ms: float | None,
    max_size_mb: float | None,
    max_rss_mb: float | None,
    limit: int | None,
    no_latency: bool,
    batch: int | None,
    length: int | None,
    threads: int | None,
    budget: float,
    record: bool,
    allow_other_reference: bool,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
) -> None:  # fmt: skip
    """Judge a bundle's accuracy and latency against the original PyTorch model.

    Exit code 0 means pass; 5 means that a budget or gate was missed or could not be decided.
    """
    from edgekit.pipeline.validating import validate

    try:
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
            latency=not no_latency,
            batch=batch,
            length=length,
            threads=threads,
            budget=budget,
            record=record,
            revision=revision,
            trust_remote_code=trust_remote_code,
            inputs=inputs,
            allow_other_reference=allow_other_reference,
            seed=seed,
            progress=console.status,
        )
    except BudgetNotMet as error:
        if isinstance(error.result, ValidateResult) and not console.json_output:
            print(describe(error.result, max_drop), flush=True)
        raise
    console.result(result, describe(result, max_drop))


def describe(result: ValidateResult, max_drop: str) -> str:
    """The verdict first, then what it rests on."""
    lines = [f"verdict: {result.verdict}"]
    accuracy = result.accuracy
    if accuracy is None:
        lines.append("accuracy: no data given; the outputs were compared on the golden inputs")
    else:
        lines.append(
            f"{accuracy.metric}: {accuracy.reference:.4f} in PyTorch, {accuracy.candidate:.4f} in"
            f" the bundle; drop {accuracy.drop:+.4f}"
            f" ({accuracy.drop_lower_95:+.4f} to {accuracy.drop_upper_95:+.4f}),"
            f" budget {max_drop}, {accuracy.samples:,} samples"
        )
    if result.latency is not None:
        speed = result.latency.speedup
        lines.append(
            f"latency: {result.latency.reference_ms:.2f} ms in PyTorch,"
            f" {result.latency.candidate_ms:.2f} ms in the bundle: {speed.value:.2f}×"
            f" ({speed.low:.2f}–{speed.high:.2f})"
        )
    size = result.size
    lines.append(
        f"size: {human_bytes(size.reference_bytes)} in PyTorch,"
        f" {human_bytes(size.candidate_bytes)} in the bundle"
    )
    rows = [
        (name, f"{row.max_abs:.2e}", f"{row.mean_abs:.2e}", f"{row.cosine:.6f}",
         None if row.argmax_agreement is None else f"{row.argmax_agreement:.2%}")
        for name, row in result.numerics.items()
    ]  # fmt: skip
    lines += ["", table(("output", "max |Δ|", "mean |Δ|", "cosine", "argmax"), rows)]
    if result.gates:
        gates = [
            (gate.name, f"{gate.limit:g}", None if gate.value is None else f"{gate.value:.3g}",
             _said(gate))
            for gate in result.gates
        ]  # fmt: skip
        lines += ["", table(("gate", "limit", "measured", ""), gates)]
    return "\n".join(lines)


def _said(gate: Gate) -> str:
    return {True: "ok", False: "missed", None: "not decided"}[gate.passed]
