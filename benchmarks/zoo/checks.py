"""Hashes: how a file is compared with what the table or a stamp says about it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks.zoo.errors import ZooError


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mismatch(path: Path, size: int, sha256: str) -> str | None:
    """Return what is wrong with a file, or None when size and hash are right."""
    if not path.is_file():
        return f"{path.name} is missing"
    found = path.stat().st_size
    if found != size:
        return f"{path.name} has {found} bytes, expected {size}"
    digest = sha256_file(path)
    if digest != sha256:
        return f"{path.name} has sha256 {digest}, expected {sha256}"
    return None


def require(path: Path, size: int, sha256: str) -> None:
    """Raise ZooError unless the file has exactly this size and hash."""
    problem = mismatch(path, size, sha256)
    if problem is not None:
        raise ZooError(
            f"{problem}. The registry or a mirror served another file than the one the zoo "
            "knows: do not use it; if the package was replaced on purpose, look at the new file "
            "and change its row in benchmarks/zoo/table.py."
        )
