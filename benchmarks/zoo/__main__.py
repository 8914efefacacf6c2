"""Command line of the zoo: `python -m benchmarks.zoo list | fetch [NAME...] | path NAME`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import fingerprint
from benchmarks.zoo.store import cache_dir, fetch, find, names, stale
from benchmarks.zoo.table import TABLE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 when something could not be had (2 is wrong usage)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is, and what is cached")
    fetching = commands.add_parser("fetch", help="fetch entries (without a name all), print paths")
    fetching.add_argument("name", nargs="*")
    showing = commands.add_parser("path", help="print the folder of an entry that is cached")
    showing.add_argument("name")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            return _list()
        if options.command == "path":
            return _path(options.name)
        for name in [find(name).name for name in options.name] or _usable():
            print(fetch(name))
    except (ZooError, OSError) as error:
        print(f"zoo: {error}", file=sys.stderr)
        return 1
    return 0


def _usable() -> list[str]:
    """All entries but those that this machine has no use for, which are told."""
    for name, entry in TABLE.items():
        if not entry.usable:
            print(f"zoo: {name} is left out, it runs on {' '.join(entry.runs_on or ())} alone",
                  file=sys.stderr)  # fmt: skip
    return [name for name in names() if TABLE[name].usable]


def _list() -> int:
    print(f"cache: {cache_dir()}")
    width = max(len(name) for name in TABLE)
    for name, entry in TABLE.items():
        there = stale(cache_dir() / name, fingerprint(entry, TABLE)) is None
        state = "cached" if there else "-"
        print(f"{name:{width}}  {entry.kind:5}  {state:6}  {entry.summary}")
    return 0


def _path(name: str) -> int:
    entry = find(name)
    folder = cache_dir() / name
    problem = stale(folder, fingerprint(entry, TABLE))
    if problem is not None:
        raise ZooError(
            f"{name} is not cached: {problem}. Run python -m benchmarks.zoo fetch {name}"
        )
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
