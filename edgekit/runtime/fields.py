"""Values of a processor in a manifest, each read with its bounds: bundles are hostile input."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgekit.core.errors import BundleCorrupt, BundleVersion

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


def short(value: object) -> str:
    """A value for a message, however long it is."""
    if isinstance(value, int) and value.bit_length() > 200:
        # Python refuses to write out whole numbers of thousands of digits.
        return f"a whole number of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
