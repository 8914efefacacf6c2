"""Release numbers as something that can be compared."""

from __future__ import annotations


def version_key(version: str) -> tuple[int, ...]:
    """1.31.1 as (1, 31, 1); zeros at the end and what follows the numbers do not count."""
    numbers = _numbers(version)
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def release(version: str) -> str:
    """Major and minor number of a version: what a bundle asks a device for."""
    return ".".join(map(str, _numbers(version)[:2]))


def _numbers(version: str) -> list[int]:
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return numbers
