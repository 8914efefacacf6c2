"""export as the command line and Python call it: what is told, and what is refused early."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.core.errors import ConfigError
from tests import models


def test_unknown_dimension_is_refused_before_the_source_is_loaded(tmp_path: Path) -> None:
    """A checkpoint's dimensions are known by name; loading may take minutes."""
    told: list[str] = []
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ConfigError, match="--static names the dimension 'foo'"):
        edgekit.export(str(folder), tmp_path / "b", static={"foo": 1}, progress=told.append)
    assert told == []


def test_what_was_decided_is_told_at_the_end(tmp_path: Path) -> None:
    """Nobody declared which dimension of the factory's sample varies."""
    told: list[str] = []
    edgekit.export(f"{models.__file__}:cnn_with_samples", tmp_path / "b", progress=told.append)
    assert "found to be the batch" in told[-1]
