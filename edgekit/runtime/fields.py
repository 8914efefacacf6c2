"""Values of a processor or of rules in a manifest, written, and read with their bounds.

Bundles are hostile input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING

from edgekit.core.errors import BundleCorrupt, BundleVersion

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UPGRADE = "Upgrade edgekit on this device: pip install --upgrade edgekit-ml"


def only(value: Mapping[str, object], where: str, known: tuple[str, ...]) -> None:
    """Raise BundleVersion for a key that is not known: it may change answers."""
    for key in value:
        if key not in known:
            raise BundleVersion(
                f"{where} has the key {key!r}, which this edgekit does not know; it knows"
                f" {', '.join(known)}.",
                hint=UPGRADE,
            )


def word_of(
    value: Mapping[str, object], key: str, choices: tuple[str, ...], default: str, where: str
) -> str:
    """One of some words. Raises BundleVersion."""
    found = value.get(key, default)
    if found not in choices:
        raise BundleVersion(
            f"{where}.{key} is {short(found)}; this edgekit knows {', '.join(choices)}.",
            hint=UPGRADE,
        )
    return str(found)


def flag(value: Mapping[str, object], key: str, where: str) -> bool:
    """True or false, false where nothing is said. Raises BundleCorrupt."""
    found = value.get(key, False)
    if not isinstance(found, bool):
        raise BundleCorrupt(f"{where}.{key} is true or false, got {short(found)}.")
    return found


def whole(value: Mapping[str, object], key: str, where: str, low: int, high: int) -> int:
    """A whole number within bounds. Raises BundleCorrupt."""
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
        raise BundleCorrupt(
            f"{where}.{key} should be a whole number from {low:,} to {high:,}, got {short(found)}."
        )
    return found


def number(
    value: Mapping[str, object], key: str, where: str, default: float | None = None
) -> float:
    """A finite number. Raises BundleCorrupt."""
    found = value.get(key, default)
    wrong = f"{where}.{key} should be a finite number, got {short(found)}."
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BundleCorrupt(wrong)
    try:
        made = float(found)
    except OverflowError as error:
        raise BundleCorrupt(wrong) from error
    if not math.isfinite(made):
        raise BundleCorrupt(wrong)
    return made


def optional(value: Mapping[str, object], key: str, where: str, low: int, high: int) -> int | None:
    """A whole number within bounds, None where nothing is said. Raises BundleCorrupt."""
    return None if value.get(key) is None else whole(value, key, where, low, high)


def section(value: Mapping[str, object], key: str, where: str) -> Mapping[str, object] | None:
    """An object, None where nothing is said. Raises BundleCorrupt."""
    found = value.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise BundleCorrupt(f"{where}.{key} should be an object, got {short(found)}.")
    return found


def listed(value: Mapping[str, object], key: str, where: str, most: int) -> Sequence[object]:
    """A list of at most so many items, empty where nothing is said. Raises BundleCorrupt."""
    found = value.get(key)
    if found is None:
        return ()
    if not isinstance(found, list | tuple) or len(found) > most:
        raise BundleCorrupt(
            f"{where}.{key} should be a list of at most {most:,} items, got {short(found)}."
        )
    return found


def numbers(
    value: Mapping[str, object], key: str, where: str, high: int, most: int
) -> tuple[int, ...]:
    """A list of at most `most` whole numbers from 0 on. Raises BundleCorrupt."""
    found = listed(value, key, where, most)
    return tuple(whole({key: item}, key, where, 0, high) for item in found)


def document_of(record: DataclassInstance) -> dict[str, object]:
    """A record as JSON holds it; what is left out is what the record has where nothing is said.

    Not what is false or 0: the token 0 is one like any other.
    """
    made: dict[str, object] = {}
    for item in fields(record):
        found = getattr(record, item.name)
        if item.default is not MISSING:
            silent = found == item.default
        else:
            silent = item.default_factory is not MISSING and found == item.default_factory()
        if not silent:
            made[item.name] = _plain(found)
    return made


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return document_of(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def short(value: object) -> str:
    """A value for a message, however long it is."""
    if isinstance(value, int) and value.bit_length() > 200:
        # Python refuses to write out whole numbers of thousands of digits.
        return f"a whole number of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
