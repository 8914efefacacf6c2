"""How the commands that judge end: the result is told, whatever becomes of its reports."""

from __future__ import annotations

from pathlib import Path

from edgekit.cli.console import Console
from edgekit.core.built import BuildResult
from edgekit.core.errors import EdgekitError
from edgekit.core.measurements import BenchResult, QuantizeResult, ValidateResult
from edgekit.core.pruned import PruneResult

Result = BenchResult | BuildResult | PruneResult | QuantizeResult | ValidateResult


def tell(
    console: Console,
    result: Result,
    text: str,
    missed: EdgekitError | None,
    *,
    html: Path | None = None,
    markdown: Path | None = None,
    force: bool = False,
) -> None:
    """Print a result, as one object with ``--json``, and write its reports.

    Args:
        text: the result for a person.
        missed: the error that came with it: it gets the result, and is raised in the end.
    """
    if missed is not None:
        missed.result = result
    # What took an hour to measure is told before anything else can fail.
    if not console.json_output:
        console.result(result, text)
    try:
        _write(console, result, html, markdown, force=force)
    except Exception as error:
        if missed is not None:
            also = f"Besides, the reports could not be written: {type(error).__name__}: {error}"
            missed.hint = f"{missed.hint} {also}" if missed.hint else also
            raise missed from error
        if isinstance(error, EdgekitError):
            error.result = result
        elif console.json_output:
            console.result(result, text)
        raise
    if missed is not None:
        raise missed
    if console.json_output:
        console.result(result, text)


def _write(
    console: Console, result: Result, html: Path | None, markdown: Path | None, *, force: bool
) -> None:
    """Write the reports that were asked for, and say where they lie."""
    if isinstance(result, (BuildResult, QuantizeResult)):
        return
    from edgekit.reporting import write_reports

    write_reports(result, html, markdown, force=force)
    for path in (html, markdown):
        if path is not None:
            console.status(f"Written: {path}")
