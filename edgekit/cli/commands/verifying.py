"""``edgekit verify``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console, table
from edgekit.cli.options import BundlePath, common, pass_console
from edgekit.core.errors import BudgetNotMet


@click.command("verify")
@click.argument("bundle", type=BundlePath())
@click.option(
    "--engine",
    metavar="NAME",
    help="Run on this engine instead of the bundle's own. A compiled bundle runs on its own only.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine.")
@common
@pass_console
def command(console: Console, bundle: Path, engine: str | None, threads: int | None) -> None:
    """Check a bundle's hashes and its golden answers on this device.

    The verdict rests on "max |Δ|", the largest difference from what the bundle answered where it
    was written, and on what the precision allows there. "from the original" is the largest
    difference from the original model's answers: told, not judged. So is what a decoder of few bits
    keeps between two tokens, whose answers are judged.
    """
    from edgekit.pipeline.verifying import verify

    result = verify(bundle, engine=engine, threads=threads, progress=console.status)
    if not result.passed:
        worst = next(row for row in result.golden if not row.passed)
        raise BudgetNotMet(
            f"{bundle} answers differently on this device: {worst.output} is off by"
            f" {worst.max_abs:.3g} (cosine {worst.cosine:.6f}), allowed {worst.tolerance}.",
            hint="Compile the exported bundle for this device with: edgekit compile B -o B2"
            " --target host",
            result=result,
        )
    rows = table(
        ("output", "max |Δ|", "allowed", "from the original", ""),
        [
            (
                row.output,
                f"{row.max_abs:.2e}",
                row.tolerance,
                None if row.to_reference is None else f"{row.to_reference:.2e}",
                ("ok" if row.judged else "told") if row.passed else "off",
            )
            for row in result.golden
        ],
    )
    text = f"{rows}\n{bundle}: files whole, golden answers reproduced on {result.engine}."
    console.result(result, text if result.golden else f"{bundle}: files whole, no golden inputs.")
