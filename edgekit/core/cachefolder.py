"""Where edgekit keeps what it can make again: a folder of the user's, or the one that is named."""

from __future__ import annotations

import os
from pathlib import Path

# Names the folder itself; takes precedence over everything else.
VARIABLE = "EDGEKIT_CACHE"


def cache_folder() -> Path:
    """The folder of caches, each of which has a folder of its own in it.

    It is ``EDGEKIT_CACHE`` where that is set, else ``edgekit`` in ``XDG_CACHE_HOME``, else
    ``~/.cache/edgekit``. It need not exist, and it may be one that cannot be written: whoever keeps
    something there goes on without when that fails.
    """
    named = os.environ.get(VARIABLE)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if named:
            return Path(named).expanduser().absolute()
        # Relative paths are to be ignored, says the XDG base directory specification.
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "edgekit"
    except RuntimeError:
        # A user without a home has no cache: nothing can be written below what is no folder.
        return Path(os.devnull, "edgekit")
