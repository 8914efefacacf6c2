"""``edgekit compile``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes
from edgekit.cli.options import (
    BundlePath,
    common,
    output,
    pass_console,
    seed,
    static_dimensions,
    target,
    workload,
)


@click.command("compile")
@click.argument("bundle", type=BundlePath())
@output
@target(engine="a quantized bundle's own, else the first,")
@click.option("--static", multiple=True, metavar="DIM=N", help="Fix a dimension that varies.")
@workload
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
    from edgekit.pipeline.compilation import NOTHING
    from edgekit.pipeline.compiling import compile

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
