"""``edgekit cache``."""

from __future__ import annotations

import time

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import common, pass_console

_HEADER = ("last used", "step", "of", "for", "size", "entry")
# The largest unit of an age that it is at least one of, in seconds.
_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


@click.group("cache")
def command() -> None:
    """List or clear what builds have kept."""


@command.command("list")
@common
@pass_console
def list_entries(console: Console) -> None:
    """What the cache holds, the least recently used first."""
    from edgekit.core.cachefolder import cache_folder
    from edgekit.pipeline.builds.store import entries

    found = entries()
    now = time.time()
    rows = [
        (_age(now - one.used), one.kind, one.model, one.target, human_bytes(one.bytes),
         one.path.name)
        for one in found
    ]  # fmt: skip
    total = f"{_entries(len(found))}, {human_bytes(sum(one.bytes for one in found))}"
    text = f"{total} in {cache_folder()}"
    if rows:
        text = f"{table(_HEADER, rows)}\n\n{text}"
    console.result({"folder": cache_folder(), "entries": found}, text)


@command.command("clear")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="DAYS",
    help="Only what was not used for so many days.",
)
@common
@pass_console
def clear_entries(console: Console, older_than: float) -> None:
    """Remove what the cache holds."""
    from edgekit.pipeline.builds.store import clear

    count, size = clear(older_than_days=older_than)
    console.result(
        {"removed": count, "bytes": size}, f"Removed {_entries(count)}, {human_bytes(size)}."
    )


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _age(seconds: float) -> str:
    """How long ago something was, in one unit."""
    for name, length in _UNITS:
        count = int(seconds // length)
        if count >= 1:
            return f"{count:,} {name}{'' if count == 1 else 's'} ago"
    return "just now"
