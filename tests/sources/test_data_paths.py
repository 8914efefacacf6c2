"""Paths of DATA, and kinds of files that a model cannot read."""

from __future__ import annotations

import pytest

from edgekit.core.errors import ConfigError
from edgekit.sources.data_paths import require_texts


def test_arrays_are_no_texts() -> None:
    """An archive of arrays is refused by its name; a table is not."""
    with pytest.raises(ConfigError, match=r"x\.NPZ holds arrays, and a model for text-generation"):
        require_texts("x.NPZ", "text-generation")
    require_texts("x.csv", "text-generation")
