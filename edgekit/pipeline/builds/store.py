"""What the steps of a build have made before, found again by all that it depends on.

An entry is a bundle and what its step told, under the hash of a key: the step, its options, the
content of what went in, the versions of the libraries that matter, the processor where something
was measured. Only what succeeded is kept. An entry appears whole or not at all, so that builds may
run side by side: of two that make the same one, the first to end keeps it. What is found is lent
to a build as files of its own, which stay when somebody clears the cache.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.cachefolder import cache_folder
from edgekit.core.errors import ConfigError, EdgekitError, StepError, disk_errors
from edgekit.core.hashing import canonical_json, sha256_bytes
from edgekit.core.manifest import MANIFEST_MAX_BYTES, MANIFEST_NAME

# Of the entries: raised when their meaning changes, or that of what steps leave in them.
_FORMAT = 2
_FACTS = "entry.json"
_BUNDLE = "bundle"

Json = Mapping[str, object]


@dataclass(frozen=True)
class Kept:
    """A step's bundle; ``facts`` are what the step told, ``cached`` that it was not run."""

    bundle: Bundle
    facts: Json
    cached: bool


@dataclass(frozen=True)
class Entry:
    """Something in the cache; ``used`` is when it was last asked for, in seconds of the epoch.

    ``model`` and ``target`` say what a bundle was made of and for, None where that is not known.
    """

    path: Path
    kind: str
    bytes: int
    used: float
    model: str | None = None
    target: str | None = None


class Store:
    """The cache of builds. Without a `root` every step is run, into `work`."""

    def __init__(self, root: Path | None, work: Path) -> None:
        self._root = root
        self._work = work
        self._made = 0

    def step(self, name: str, key: Json | None, make: Callable[[Path], Json]) -> Kept:
        """The bundle of a step: kept before, or made by `make` at the path that it is given.

        A `key` of None is that of a step whose result depends on more than can be told. What
        `make` raises is raised, and nothing is kept of it.
        """
        self._made += 1
        made = self._work / f"{self._made}-{name}"
        if self._root is None or key is None:
            facts = make(made)
            return Kept(open_bundle(made, check="quick"), facts, cached=False)
        place = self._root / "build" / f"{name}-{_digest(key)[:24]}"
        found = _read(place, key)
        if found is not None:
            lent = _lend(found.bundle, made)
            if lent is not None:
                return Kept(lent, found.facts, cached=True)
        facts = make(made)
        bundle = open_bundle(made, check="quick")
        _keep(place, bundle, key, facts)
        return Kept(bundle, facts, cached=False)


def _digest(key: Json) -> str:
    return sha256_bytes(canonical_json({"format": _FORMAT, **key}))


def _read(place: Path, key: Json) -> Kept | None:
    """The entry at a place; one that is damaged, or of another key, is as none."""
    try:
        stored = json.loads((place / _FACTS).read_text(encoding="utf-8"))
        if stored["digest"] != _digest(key):
            return None
        bundle = open_bundle(place / _BUNDLE)
        facts = stored["facts"]
    except (OSError, ValueError, KeyError, TypeError, EdgekitError):
        return None
    # An entry of somebody else's, or on a disk that is read-only, is as good as any other.
    with suppress(OSError):
        os.utime(place)
    return Kept(bundle, facts, cached=True) if isinstance(facts, dict) else None


def _lend(bundle: Bundle, to: Path) -> Bundle | None:
    """The same files at a place of the build's own; None where the entry is being removed."""
    try:
        shutil.copytree(bundle.path, to, copy_function=_link)
        return open_bundle(to, check="quick")
    except (OSError, EdgekitError):
        shutil.rmtree(to, ignore_errors=True)
        return None


def _link(source: str, to: str) -> None:
    """The file under another name, or a copy of it on another disk."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)


def _keep(place: Path, bundle: Bundle, key: Json, facts: Json) -> None:
    """Put an entry where it is found again; a cache that cannot be written to is no failure."""
    temporary = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        shutil.copytree(bundle.path, temporary / _BUNDLE)
        told = {"digest": _digest(key), "key": key, "facts": facts}
        (temporary / _FACTS).write_text(json.dumps(told), encoding="utf-8")
        if place.exists() and _read(place, key) is None:
            # What is damaged there would stay for ever.
            _remove(place)
        temporary.rename(place)
    except OSError:
        # Full, read-only, or somebody else's was there first.
        return
    finally:
        # Also after Ctrl-C; what became an entry is not there any more.
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def entries() -> list[Entry]:
    """All that the cache holds, the least recently used first."""
    root = cache_folder()
    kinds = ("build", "calibration", "recovery")
    found = [entry for kind in kinds for entry in _entries(root / kind)]
    return sorted(found, key=lambda entry: entry.used)


def _entries(folder: Path) -> Iterator[Entry]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        try:
            used = path.stat().st_mtime
            files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
            size = sum(one.stat().st_size for one in files)
        except OSError:
            # Another process has just removed it.
            continue
        kind = folder.name if path.is_file() else path.name.lstrip(".").rsplit("-", 1)[0]
        yield Entry(path, kind, size, used, *_made_of(path / _BUNDLE / MANIFEST_NAME))


def _made_of(manifest: Path) -> tuple[str | None, str | None]:
    """The source and, with its engine, the target that a manifest names.

    It is only told, not trusted: a look at the text is enough.
    """
    try:
        if manifest.stat().st_size > MANIFEST_MAX_BYTES:
            return None, None
        found = json.loads(manifest.read_bytes())
        model, target = found.get("source") or {}, found.get("target") or {}
        engine = (found.get("requires") or {}).get("engine")
        name, device = model.get("id"), target.get("name")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None, None
    told = f"{device}, {engine}" if isinstance(device, str) else None
    return (name if isinstance(name, str) else None), told


def clear(*, older_than_days: float = 0.0) -> tuple[int, int]:
    """Remove what was not used for so many days; how many entries and bytes went.

    Raises ConfigError for what is no number of days, or an entry that must not be removed.
    """
    if math.isnan(older_than_days) or older_than_days < 0:
        raise ConfigError(f"--older-than takes days from 0 on, got {older_than_days}.")
    before = time.time() - older_than_days * 86_400
    count = size = 0
    for entry in entries():
        # Without an age all go, also what a clock that was wrong has dated into the future.
        if older_than_days and entry.used > before:
            continue
        with disk_errors(StepError, f"removing {entry.path}"):
            try:
                _remove(entry.path)
            except FileNotFoundError:
                # Another process was faster.
                continue
        count, size = count + 1, size + entry.bytes
    return count, size


def _remove(path: Path) -> None:
    """An entry goes at once, under a name where nobody reads it or goes on writing it."""
    doomed = Path(tempfile.mkdtemp(prefix=f".{path.name.lstrip('.')}.", dir=path.parent))
    try:
        path.rename(doomed / path.name)
    finally:
        shutil.rmtree(doomed, ignore_errors=True)
