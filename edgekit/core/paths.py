"""The paths that a bundle may name."""

from __future__ import annotations

from edgekit.core.errors import BundleUnsafe

_MAX_LENGTH = 240


def safe_relative_path(value: str, where: str) -> str:
    """`value` when it is a plain relative path that stays inside on every system.

    Raises BundleUnsafe for absolute paths, ``..``, drive letters, back-slashes, control
    characters and anything that is not already in its shortest form.
    """
    parts = value.split("/")
    reason = None
    if not value or len(value) > _MAX_LENGTH:
        reason = "is empty" if not value else f"is longer than {_MAX_LENGTH} characters"
    elif value.startswith("/") or (len(value) > 1 and value[1] == ":"):
        reason = "is absolute"
    elif ".." in parts:
        reason = "leads out of the bundle with '..'"
    elif "\\" in value or any(ord(character) < 32 for character in value):
        reason = "holds a back-slash or a control character"
    elif "" in parts or "." in parts:
        reason = "is not in its shortest form"
    if reason:
        raise BundleUnsafe(
            f"The path {value[:80]!r} in {where} {reason}.",
            hint="Do not use this bundle; ask whoever made it for one that edgekit wrote.",
        )
    return value
