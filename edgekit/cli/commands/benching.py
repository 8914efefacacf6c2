"""``edgekit bench``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import common, pass_console, seed, source_loading
from edgekit.core.errors import EdgekitError
from edgekit.core.results import BenchResult


@click.command("bench")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--reference", metavar="SOURCE", help="The original PyTorch model.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=DTYPE:DIM,…",
    help="An input of a custom reference; the bundle's own by default.",
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--length",
    "lengths",
    type=click.IntRange(min=1),
    multiple=True,
    help="Tokens of a workload; may be repeated (16 and 128 by default).",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of every contender.")
@click.option(
    "--budget",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds of timing in all, start-up of the processes excluded.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Fresh processes per contender.",
)
@source_loading
@seed
@common
@pass_console
def command(
    console: Console,
    bundles: tuple[Path, ...],
    reference: str | None,
    inputs: tuple[str, ...],
    batch: int,
    lengths: tuple[int, ...],
    threads: int | None,
    budget: float,
    processes: int,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
) -> None:  # fmt: skip
    """Compare latency, throughput and memory, interleaved in fresh processes.

    With --reference every speed is a ratio to the original PyTorch model; without it to the first
    bundle. Memory is the peak RSS above what the imports of a contender's process took.
    """
    from edgekit.pipeline.benching import bench

    try:
        result = bench(
            bundles,
            reference=reference,
            batch=batch,
            lengths=lengths or None,
            threads=threads,
            budget=budget,
            processes=processes,
            revision=revision,
            trust_remote_code=trust_remote_code,
            inputs=inputs,
            seed=seed,
            progress=console.status,
        )
    except EdgekitError as error:
        if isinstance(error.result, BenchResult) and not console.json_output:
            print(describe(error.result), flush=True)
        raise
    console.result(result, describe(result))


def describe(result: BenchResult) -> str:
    """Contenders, ratios and noise as tables."""
    contenders = table(
        ("contender", "engine", "workload", "p50 ms", "p90 ms", "p99 ms", "per s", "first ms",
         "load ms", "peak RSS above imports", "files", "n"),
        [
            (row.name, row.engine, _workload(row.batch, row.length), _ms(row.p50_ms),
             _ms(row.p90_ms), _ms(row.p99_ms),
             None if row.throughput is None else f"{row.throughput:.1f}", _ms(row.first_ms),
             _ms(row.load_ms), human_bytes(row.peak_rss_bytes), human_bytes(row.artifact_bytes),
             f"{row.samples:,}")
            for row in result.contenders
        ],
    )  # fmt: skip
    ratios = table(
        ("workload", "speed of", "over", "ratio", "95 %", "verdict"),
        [
            (_workload(row.batch, row.length), row.b, row.a, f"{row.value:.2f}×",
             f"{row.low:.2f}–{row.high:.2f}", row.verdict)
            for row in result.ratios
        ],
    )  # fmt: skip
    noise = result.noise
    lines = [contenders]
    if result.ratios:
        lines += ["", ratios]
    if noise.aa_ratio is not None and noise.aa_low is not None and noise.aa_high is not None:
        lines.append(
            f"\nA/A: {noise.aa_ratio:.3f} ({noise.aa_low:.3f}–{noise.aa_high:.3f});"
            f" the machine was {noise.verdict}."
        )
    lines += [f"  {cause}" for cause in noise.causes]
    lines += [f"Note: {note}" for note in result.notes]
    return "\n".join(lines)


def _workload(batch: int, length: int | None) -> str:
    return f"{batch}" if length is None else f"{batch}×{length}"


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
