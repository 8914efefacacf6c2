"""How the commands that measure end: the result is told, whatever becomes of its reports."""

from __future__ import annotations

from pathlib import Path

from edgekit.cli.console import Console
from edgekit.core.errors import EdgekitError
from edgekit.core.measurements import BenchResult, ValidateResult


def tell(
    console: Console,
    result: BenchResult | ValidateResult,
    text: str,
    missed: EdgekitError | None,
    *,
    html: Path | None,
    markdown: Path | None,
    force: bool,
) -> None:
    """Print a result, as one object with ``--json``, and write its reports.

    Args:
        text: the result for a person.
        missed: the error that came with it: it gets the result, and is raised in the end.
    """
    from edgekit.reporting import write_reports

    if missed is not None:
        missed.result = result
    # What took an hour to measure is told before anything else can fail.
    if not console.json_output:
        console.result(result, text)
    try:
        write_reports(result, html, markdown, force=force)
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
