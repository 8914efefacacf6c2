"""Checks of what a call may say besides its inputs, and how messages call what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

from edgekit.core.errors import ConfigError

#: How a caller writes an option, with a value where there is one; None for one that it has not.
Speller: TypeAlias = Callable[[str, object], str | None]

# Errors are worded where they are found, for whoever wrote the option: an app, or a shell.
_SPELLER: ContextVar[Speller | None] = ContextVar("edgekit.options", default=None)


@contextmanager
def spelled(speller: Speller) -> Iterator[None]:
    """Messages name options as `speller` writes them, in this thread, until the end."""
    before = _SPELLER.set(speller)
    try:
        yield
    finally:
        _SPELLER.reset(before)


def option(name: str, value: object = None) -> str:
    """An option as its caller writes it: ``top_k``, and with a value ``top_k=5``."""
    speller = _SPELLER.get()
    told = None if speller is None else speller(name, value)
    if told is not None:
        return told
    return name if value is None else f"{name}={value!r}"


def refuse_options(options: Mapping[str, object], known: frozenset[str], task: str) -> None:
    """Raise ConfigError for an option that the task does not have."""
    for name in options:
        if name not in known:
            raise ConfigError(
                f"{task} has no option {option(name)!r}.", hint=f"Its options: {_listed(known)}."
            )


def _listed(known: Iterable[str]) -> str:
    """The options that the caller can write."""
    speller = _SPELLER.get()
    if speller is None:
        return f"{', '.join(sorted(known)) or 'none'}, and batch_size"
    told = (speller(name, None) for name in sorted(known))
    return ", ".join(one for one in told if one is not None) or "none"


def check_batch_size(batch_size: int | None) -> None:
    """Raise ConfigError for a batch size that is not a number of at least 1."""
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size is a whole number of at least 1, got {batch_size!r}.")
