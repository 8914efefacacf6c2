"""``edgekit compile``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes
from edgekit.cli.options import BundlePath, common, output, pass_console, seed, static_dimensions


@click.command("compile")
@click.argument("bundle", type=BundlePath())
@output
@click.option(
    "--target",
    default="host",
    show_default=True,
    metavar="NAME|FILE.toml",
    help="The target profile; see: edgekit targets.",
)
@click.option("--engine", metavar="NAME", help="One of the target's engines; the first by default.")
@click.option("--static", multiple=True, metavar="DIM=N", help="Fix a dimension that varies.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the profile, e.g. options.openvino.streams=2.",
)
@click.option("--batch", type=click.IntRange(min=1), help="Batch of the workload to choose for.")
@click.option("--length", type=click.IntRange(min=1), help="Tokens of the workload to choose for.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine.")
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
    static: tuple[str, ...],
    overrides: tuple[str, ...],
    batch: int | None,
    length: int | None,
    threads: int | None,
    seed: int,
) -> None:  # fmt: skip
    """Turn a bundle into the artifact that a target's engine loads fastest."""
    from edgekit.core.bundle import open_bundle
    from edgekit.pipeline.compiling import NOTHING, compile

    result = compile(
        bundle,
        output,
        target=target,
        engine=engine,
        static=static_dimensions(static),
        overrides=overrides,
        batch=batch,
        length=length,
        threads=threads,
        force=force,
        seed=seed,
        progress=console.status,
    )
    lines = [f"{key} = {value}" for key, value in result.runtime.items()]
    compared = open_bundle(output, check="quick").manifest.steps[-1].facts["compared"]
    with_whom = "compared with nothing" if compared == NOTHING else f"compared with {compared}"
    if result.run_on is None:
        lines.append(f"Built, not run on {result.target}; on this CPU {with_whom}.")
    else:
        lines.append(f"Run on this machine, {with_whom}; loads in {result.load_ms:.0f} ms.")
    lines.append(f"{output}: {result.engine} for {result.target}, {human_bytes(result.bytes)}.")
    console.result(result, "\n".join(lines))
