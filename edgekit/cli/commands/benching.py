"""``edgekit bench``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from edgekit.cli.bars import listening
from edgekit.cli.commands._bench_tables import describe
from edgekit.cli.console import Console, command_line
from edgekit.cli.options import (
    BundlePath,
    common,
    pass_console,
    reference_inputs,
    reports,
    seed,
    source_loading,
    timing,
)
from edgekit.core.errors import EdgekitError
from edgekit.core.measurements import BenchResult


@click.command("bench")
@click.argument("bundles", nargs=-1, required=True, type=BundlePath())
@click.option(
    "--reference", metavar="SOURCE", help="The original: a PyTorch model, or an ONNX file."
)
@reference_inputs
@click.option(
    "--also",
    type=click.Choice(["compile", "bfloat16"]),
    multiple=True,
    help="The reference once more: through torch.compile, or in bfloat16; may be repeated.",
)
@click.option(
    "--scenario",
    type=click.Choice(["single-stream", "offline", "server", "sparse"]),
    default="single-stream",
    show_default=True,
    help="How requests come: one by one, all at once, at random times, or seldom.",
)
@click.option("--qps", type=float, metavar="N", help="Requests per second of the server scenario.")
@click.option(
    "--interval", type=float, metavar="SECONDS", help="Between sparse requests; 2 by default."
)
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    metavar="N",
    help="Callers at a time in offline; the better of 1 and --threads by default.",
)
@timing(budget=60.0, sweep=True)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of every answer of a model that generates; 32 by default.",
)
@click.option("--data", metavar="DATA", help="Texts to take natural lengths from.")
@click.option("--columns", metavar="MAP", help="Column names, e.g. text=review.")
@click.option(
    "--precision",
    type=float,
    default=0.02,
    show_default=True,
    metavar="SHARE",
    help="Stop after 5 processes, or later, when every ratio is known to ± so much. Needs"
    " --processes above 5.",
)
@click.option("--probe", is_flag=True, help="Try runtime options and propose those that pay.")
@click.option(
    "--attach",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Show a result that was measured elsewhere beside; may be repeated.",
)
@source_loading
@seed
@reports
@common
@pass_console
def command(
    console: Console,
    bundles: tuple[Path, ...],
    reference: str | None,
    inputs: tuple[str, ...],
    also: tuple[Literal["compile", "bfloat16"], ...],
    scenario: str,
    qps: float | None,
    interval: float | None,
    streams: int | None,
    batches: tuple[int, ...],
    lengths: tuple[int | Literal["data"], ...],
    max_new_tokens: int | None,
    data: str | None,
    columns: str | None,
    threads: int | None,
    budget: float,
    processes: int,
    precision: float,
    probe: bool,
    attach: tuple[Path, ...],
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
    html: Path | None,
    markdown: Path | None,
    force: bool,
) -> None:  # fmt: skip
    """Compare latency, throughput and memory, interleaved in fresh processes.

    BUNDLES may be bare .onnx and OpenVINO .xml files, too. With --reference every speed is a ratio
    to the original model; without it to the first bundle. Memory is the peak RSS above
    what the imports of a contender's process took.

    A model that generates is asked for whole answers: prompts of --length tokens, each answered by
    exactly --max-new-tokens, with the time to the first token and of each one after it.
    """
    from edgekit.cli.commands._telling import tell
    from edgekit.pipeline.benching import bench
    from edgekit.reporting import require_reporting

    require_reporting(html, markdown, force=force)
    missed: EdgekitError | None = None
    try:
        with listening(console) as progress:
            result = bench(
                bundles,
                reference=reference,
                also=also,
                scenario=scenario,
                qps=qps,
                interval=interval,
                streams=streams,
                batch=batches,
                lengths=lengths or None,
                max_new_tokens=max_new_tokens,
                data=data,
                columns=columns,
                threads=threads,
                budget=budget,
                processes=processes,
                precision=precision,
                probe=probe,
                attach=attach,
                revision=revision,
                trust_remote_code=trust_remote_code,
                inputs=inputs,
                seed=seed,
                progress=progress,
            )
    except EdgekitError as error:
        if not isinstance(error.result, BenchResult):
            raise
        missed, result = error, error.result
    result = replace(result, command=command_line())
    text = describe(result, verbose=console.verbosity > 0)
    tell(console, result, text, missed, html=html, markdown=markdown, force=force)
