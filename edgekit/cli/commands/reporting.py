"""``edgekit report``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console
from edgekit.cli.options import common, pass_console
from edgekit.core.errors import ConfigError


@click.command("report")
@click.argument("source", type=click.Path(path_type=Path), metavar="BUNDLE|RESULTS.json")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The HTML page."
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Markdown, for a pull request.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@common
@pass_console
def command(
    console: Console, source: Path, output: Path | None, markdown: Path | None, force: bool
) -> None:
    """Render a result of validate, bench, prune, quantize or build, or a bundle's evidence.

    A bundle's evidence is what `build` and `validate --record` left in it, or else the verdict of
    `quantize`.

    The page is one file: no network, no scripts, readable on a phone, in the dark and on paper.
    """
    if output is None and markdown is None:
        raise ConfigError(
            "No output was named.", hint="For example: edgekit report results.json -o report.html"
        )
    from edgekit.reporting import write_report

    write_report(source, output, markdown=markdown, force=force)
    written = [path for path in (output, markdown) if path is not None]
    console.result({"outputs": written}, "\n".join(f"written: {path}" for path in written))
