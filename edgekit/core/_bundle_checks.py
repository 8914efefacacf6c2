"""What a folder may hold to be opened as a bundle: its manifest's files, whole, and no more."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from edgekit.core._onnx_scan import external_locations
from edgekit.core.errors import BundleCorrupt, BundleUnsafe
from edgekit.core.hashing import sha256_file
from edgekit.core.manifest import MANIFEST_NAME, Manifest
from edgekit.core.paths import safe_relative_path

# Files that hosting sites and file managers add by themselves. They are never opened.
_TOLERATED = ("README", "README.*", "LICENSE*", ".gitattributes", ".DS_Store")
AGAIN = "Copy or download the bundle again, or export it again."


def _entries(root: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """(path inside, lstat) of everything below `root` but plain folders; links are not followed."""
    with os.scandir(root) as found:
        for entry in found:
            info = entry.stat(follow_symlinks=False)
            name = prefix + entry.name
            if stat.S_ISDIR(info.st_mode):
                yield from _entries(Path(entry.path), name + "/")
            else:
                yield name, info


def check_files(root: Path, manifest: Manifest, *, hashed: bool) -> None:
    """Raise BundleCorrupt or BundleUnsafe where a folder holds anything but the manifest's files.

    Hosting sites' additions are tolerated. Contents are read only where they are to be `hashed`.
    """
    listed = {entry.path: entry for entry in manifest.files}
    present: set[str] = set()
    for name, info in _entries(root):
        if not stat.S_ISREG(info.st_mode):
            what = "a symbolic link" if stat.S_ISLNK(info.st_mode) else "not a regular file"
            raise BundleUnsafe(
                f"{name} in {root} is {what}; a bundle holds plain files only.",
                hint="Copy the bundle with links resolved (cp -rL), or get it again.",
            )
        present.add(name)
        if name == MANIFEST_NAME:
            continue
        if name not in listed:
            if "/" not in name and any(fnmatch(name, pattern) for pattern in _TOLERATED):
                continue
            raise BundleCorrupt(
                f"{root} holds {name}, which its manifest does not list.",
                hint="Remove the file, or get the bundle again.",
            )
        if info.st_size != listed[name].bytes:
            raise BundleCorrupt(
                f"{name} in {root} has {info.st_size} bytes, its manifest says"
                f" {listed[name].bytes}.",
                hint=AGAIN,
            )
    for name, entry in listed.items():
        if name not in present:
            raise BundleCorrupt(f"{name} is missing from {root}.", hint=AGAIN)
        if hashed and sha256_file(root / name) != entry.sha256:
            raise BundleCorrupt(
                f"{name} in {root} is not the file its manifest describes: another SHA-256.",
                hint=AGAIN,
            )


def check_external_data(root: Path, manifest: Manifest) -> None:
    """Raise BundleUnsafe where an ONNX graph reads weights that its component does not list."""
    for name, component in manifest.components.items():
        if component.format != "onnx":
            continue
        graph = component.files[0]
        for location in external_locations(root / graph):
            safe_relative_path(location, f"the external data of {graph}")
            folder = graph.rpartition("/")[0]
            inside = f"{folder}/{location}" if folder else location
            if inside not in component.files:
                raise BundleUnsafe(
                    f"{graph} reads weights from {location!r}, which component {name} does not"
                    " list.",
                    hint="Do not use this bundle.",
                )
