"""The one error of the zoo."""

from __future__ import annotations


class ZooError(RuntimeError):
    """Something could not be fetched or converted; the message says what and how to mend it."""
