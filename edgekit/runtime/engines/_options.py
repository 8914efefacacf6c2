"""Reads an engine's options out of a manifest: a key that is not understood changes answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgekit.core import cpu
from edgekit.core.errors import BundleCorrupt, BundleUnsafe, BundleVersion

# Words in the names of engines' settings that take a place to read or write, or an address.
_REACHING = frozenset(
    {
        "alloc", "cache", "callbacks", "config", "context", "dir", "dump", "external", "file",
        "filename", "filepath", "folder", "log", "path", "prefix", "profiling", "ptr", "stream",
    }
)  # fmt: skip
_UPGRADE = "Upgrade edgekit on this device: pip install --upgrade edgekit-ml"


class Options:
    """`runtime.options` of one engine, taken key by key.

    Raises BundleVersion for a key outside `known` and BundleCorrupt for a value of another kind.
    """

    def __init__(self, engine: str, values: Mapping[str, object], known: frozenset[str]) -> None:
        self._engine = engine
        self._values = values
        for key in sorted(values):
            if key not in known:
                raise BundleVersion(
                    f"runtime.options has {key!r}, which this edgekit's {engine} engine does not"
                    f" know; it knows {', '.join(sorted(known))}.",
                    hint=_UPGRADE,
                )

    def choice(self, key: str, choices: Mapping[str, str], default: str) -> str:
        """The value that a word of `choices` stands for."""
        found = self._values.get(key, default)
        if not isinstance(found, str) or found not in choices:
            raise BundleVersion(
                f"runtime.options.{key} is {found!r}; the {self._engine} engine knows"
                f" {', '.join(choices)}.",
                hint=_UPGRADE,
            )
        return choices[found]

    def flag(self, key: str) -> bool | None:
        """True, False, or None when the key is absent."""
        found = self._values.get(key)
        if found is not None and not isinstance(found, bool):
            raise BundleCorrupt(f"runtime.options.{key} should be true or false, got {found!r}.")
        return found

    def count(self, key: str) -> int | None:
        """A number of at least 1, or None when the key is absent."""
        found = self._values.get(key)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise BundleCorrupt(
                f"runtime.options.{key} should be a number of at least 1, got {found!r}."
            )
        return found

    def pairs(self, key: str, known: frozenset[str]) -> dict[str, str]:
        """The engine's own settings, as the strings in which engines take them.

        Raises BundleUnsafe for one outside `known` that by its name leads to a file or an address,
        and BundleVersion for any other: a bundle comes from somewhere else, and its settings must
        not make the engine write where they say.
        """
        found = self._values.get(key, {})
        if not isinstance(found, Mapping):
            raise BundleCorrupt(f"runtime.options.{key} should be an object, got {found!r}.")
        for name in found:
            if name in known:
                continue
            if _REACHING.intersection(re.split("[^a-z]+", str(name).lower())):
                raise BundleUnsafe(
                    f"runtime.options.{key} sets {name!r}, with which the {self._engine} engine"
                    " would reach beyond this process.",
                    hint="Do not use this bundle; compile one from a source that you trust.",
                )
            raise BundleVersion(
                f"runtime.options.{key} has {name!r}, which this edgekit does not pass on to"
                f" {self._engine}.",
                hint=f"{_UPGRADE}. It passes on: {', '.join(sorted(known))}.",
            )
        return {str(name): _setting(value) for name, value in found.items()}

    def threads(self, asked: int | None) -> int:
        """The caller's number, else the bundle's capped by what is available, else all of it."""
        if asked is not None:
            return asked
        available = cpu.available_threads()
        return min(self.count("threads") or available, available)


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)
