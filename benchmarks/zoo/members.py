"""Single files out of archives, read as bytes: nothing is unpacked to disk, links are refused."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path

from benchmarks.zoo.errors import ZooError


def read_zip(archive: Path, member: str) -> bytes:
    """Return the bytes of one member of a wheel or zip file."""
    with zipfile.ZipFile(archive) as bag:
        try:
            return bag.read(member)
        except KeyError as error:
            raise _absent(archive.name, member) from error


def list_zip(archive: Path, prefix: str) -> list[str]:
    """Return the sorted names of the files of a zip file below `prefix`."""
    with zipfile.ZipFile(archive) as bag:
        return sorted(n for n in bag.namelist() if n.startswith(prefix) and not n.endswith("/"))


def read_tar(archive: Path | bytes, member: str) -> bytes:
    """Return the bytes of one regular member of a tar file, itself given by path or as bytes."""
    source = archive.open("rb") if isinstance(archive, Path) else io.BytesIO(archive)
    name = archive.name if isinstance(archive, Path) else "inner archive"
    with source, tarfile.open(fileobj=source) as bag:
        try:
            info = bag.getmember(member)
        except KeyError as error:
            raise _absent(name, member) from error
        # extractfile would follow a link to another member; the data we want are plain files.
        stream = bag.extractfile(info) if info.isreg() else None
        if stream is None:
            raise ZooError(f"{member} in {name} is not a regular file. Check the package.")
        return stream.read()


def match_tar(archive: Path, pattern: re.Pattern[str]) -> dict[str, bytes]:
    """Return the regular members whose whole name fits a pattern, by its first group."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as bag:
        for info in bag:
            match = pattern.fullmatch(info.name)
            stream = bag.extractfile(info) if match and info.isreg() else None
            if match and stream is not None:
                found[match[1]] = stream.read()
    return found


def read_deb(archive: Path, prefix: str) -> dict[str, bytes]:
    """Return the regular files of a Debian package below `prefix`, by name, in one pass.

    Such a package is an `ar` file (see deb(5)) whose member `data.tar.*` holds the files.
    """
    with archive.open("rb") as source:
        if source.read(8) != b"!<arch>\n":
            raise ZooError(f"{archive.name} is not a Debian package. Fetch it again.")
        while len(head := source.read(60)) == 60:
            name, size = head[:16].decode().strip().rstrip("/"), int(head[48:58])
            content = source.read(size + size % 2)[:size]
            if name.startswith("data.tar"):
                return _files_of(content, prefix)
    raise _absent(archive.name, "data.tar")


def _files_of(content: bytes, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as bag:
        for info in bag:
            stream = bag.extractfile(info) if info.isreg() else None
            if stream is not None and info.name.startswith(prefix):
                found[info.name] = stream.read()
    return found


def _absent(archive: str, member: str) -> ZooError:
    return ZooError(
        f"{archive} holds no {member}. The row in benchmarks/zoo/table.py and its converter "
        "must speak of the same package version."
    )
