"""The shapes of the zoo's table: what an archive is, what an entry is."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Client = Literal["wheel", "sdist", "npm", "deb"]


@dataclass(frozen=True)
class Archive:
    """One pinned file of a package registry: `bytes` and `sha256` are those of the file."""

    client: Client
    package: str
    version: str
    filename: str
    bytes: int
    sha256: str
    #: Python version, ABI and platform of a wheel that exists in several builds. Naming them
    #: brings the same file to every machine; only its data is read, so any build will do.
    tags: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Bench:
    """What a converter finds on its bench.

    `target` is the empty folder to fill; `archives` maps package names to fetched files,
    `entries` maps names of other zoo entries to their folders; `say` reports progress.
    """

    target: Path
    archives: Mapping[str, Path]
    entries: Mapping[str, Path]
    say: Callable[[str], None]


class Converter(Protocol):
    """Fills `bench.target`; raises ZooError when the inputs are not what they should be."""

    def __call__(self, bench: Bench) -> None:
        """Write the entry's files below `bench.target`."""
        ...


@dataclass(frozen=True)
class Entry:
    """One model, data set or tool: where it comes from, what makes it, what must come out."""

    name: str
    kind: Literal["model", "data", "tool"]
    summary: str
    #: `module:function` of a Converter, imported only when the entry is made.
    converter: str
    archives: tuple[Archive, ...] = ()
    needs: tuple[str, ...] = ()
    #: To be raised whenever the converter writes something else than before.
    recipe: int = 1
    #: sha256 of outputs that are the same bytes on every machine.
    pins: Mapping[str, str] = field(default_factory=dict)
    #: The only system and architecture it is of use on, as `platform` calls them.
    runs_on: tuple[str, str] | None = None

    @property
    def usable(self) -> bool:
        """Whether this machine can use it."""
        return self.runs_on in (None, (platform.system(), platform.machine()))


def fingerprint(entry: Entry, table: Mapping[str, Entry]) -> str:
    """Return a sha256 over all that decides an entry's content; a cached folder must carry it.

    The summary and the converter's place are left out: rewording a line or moving a file must
    not send anybody to the registry again.
    """
    basis = {
        "name": entry.name,
        "recipe": entry.recipe,
        "archives": [asdict(archive) for archive in entry.archives],
        "needs": {name: fingerprint(table[name], table) for name in entry.needs},
        "pins": dict(entry.pins),
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()
