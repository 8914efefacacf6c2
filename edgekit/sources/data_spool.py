"""Pictures that stand in a table itself: those that are kept lie in files while they are needed.

A data set holds more of them than a memory; only some are used, one after the other.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from edgekit.core.errors import StepError, disk_errors
from edgekit.core.hashing import sha256_bytes

_PLAIN = re.compile(r"[^\w.-]+")
# Of a name that somebody gave a picture.
_LONGEST = 80


@dataclass(frozen=True)
class Stored:
    """A picture in a cell: the bytes of its file, and what it was called."""

    content: bytes = field(repr=False)
    name: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return sha256_bytes(self.content)

    def __repr__(self) -> str:
        return f"Stored({self.digest})"


class Spool:
    """A folder of files, each as often as it is kept; it goes with this object."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._held: Counter[str] = Counter()

    @property
    def used(self) -> bool:
        """Whether it has held anything."""
        return self._folder is not None

    def keep(self, picture: Stored) -> Path:
        """The file of a picture. Raises StepError where the disk is full."""
        name = f"{picture.digest[:16]}-{_PLAIN.sub('_', Path(picture.name).name)[-_LONGEST:]}"
        with disk_errors(StepError, "keeping pictures of DATA in the folder for temporary files"):
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="edgekit-data-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / name
            if not self._held[name]:
                path.write_bytes(picture.content)
        self._held[name] += 1
        return path

    def told(self, path: object) -> str | None:
        """What to call a file that `keep` gave, which is gone later; None for anything else."""
        if not isinstance(path, Path) or path.parent != self._folder:
            return None
        digest, _, name = path.name.partition("-")
        return f"{name or 'a picture'} (SHA-256 {digest}…)"

    def drop(self, path: object) -> None:
        """Let a file go that `keep` gave; anything else is left alone."""
        if not isinstance(path, Path) or path.parent != self._folder or not self._held[path.name]:
            return
        self._held[path.name] -= 1
        if not self._held[path.name]:
            path.unlink(missing_ok=True)
