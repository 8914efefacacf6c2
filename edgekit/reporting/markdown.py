"""The report as Markdown for a pull request: the verdict, the figures, tables that fold."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from edgekit.core.measurements import BenchResult, ValidateResult, WorstSample
from edgekit.core.pruned import PruneResult
from edgekit.reporting import tables, words
from edgekit.reporting.deciding import noisy
from edgekit.reporting.headline import headline
from edgekit.reporting.pruned import tables as pruned_tables
from edgekit.reporting.reading import Result, all_notes, read_result
from edgekit.reporting.tables import Table

_SIGNS = {"good": "✅", "bad": "❌", "open": "⚠️", "plain": ""}
_WORST = 10
# What GitHub's Markdown could take for markup, a mention, a link or an issue.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$@:])")


def render_markdown(result: Mapping[str, object]) -> str:
    """The report of a result, given as the JSON that ``--json`` prints; no extra is needed.

    Raises ConfigError when `result` is no result that a report tells of.
    """
    read = read_result(result)
    head = headline(read)
    lines = [f"## {_SIGNS[head.tone]} {head.badge}: {plain(head.title)}", "", plain(head.sentence)]
    if head.reasons:
        lines += ["", *(f"- **{plain(reason)}**" for reason in head.reasons)]
    if head.figures:
        rows = tuple((one.label, one.value, one.detail) for one in head.figures)
        lines += ["", *_rows(("", "", ""), rows)]
    for table in _tables(read):
        told = [line for foot in table.foot for line in ("", plain(foot))]
        lines += ["", *_folded(table.title, [*_rows(table.header or ("", ""), table.rows), *told])]
    if isinstance(read, ValidateResult):
        same = tables.undisturbed(read)
        lines += [] if same is None else ["", plain(same)]
        if read.worst:
            lines += ["", *_folded("Samples that differ most", _worst(read.worst[:_WORST]))]
    notes = all_notes(read)
    if notes:
        lines += ["", *(f"- {plain(note)}" for note in notes)]
    if read.command:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", read.command)), default=0))
        lines += ["", f"{fence}sh", read.command, fence]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _tables(result: Result) -> list[Table]:
    if isinstance(result, PruneResult):
        return [*pruned_tables.sensitivity(result), *pruned_tables.layers(result),
                *pruned_tables.tried(result), *pruned_tables.cards(result)]  # fmt: skip
    timing = result if isinstance(result, BenchResult) else result.timing
    found: list[Table] = []
    if isinstance(result, ValidateResult):
        found += [*tables.gates(result), *tables.numerics(result.numerics)]
    if timing is not None:
        found += [*tables.ratios(timing), *tables.contenders(timing),
                  *tables.tokens(timing), *tables.token_ratios(timing),
                  *tables.probes(timing.probes, noisy=noisy(timing.noise)),
                  *tables.attached(timing.attached), *tables.noise(timing.noise)]  # fmt: skip
    return [*found, *tables.device(result.device), *tables.versions(result.versions)]


def _worst(samples: Sequence[WorstSample]) -> list[str]:
    header = ("row", "input", "label", "reference", "candidate", "distance")
    rows = tuple(
        (str(one.row), one.input[:160], one.label or words.NONE, one.reference, one.candidate,
         words.general(one.distance, ".3g"))
        for one in samples
    )  # fmt: skip
    return _rows(header, rows)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        _row(header),
        "|" + "---|" * len(header),
        *(_row(row) for row in rows),
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{html.escape(title)}</summary>", "", *lines, "", "</details>"]
