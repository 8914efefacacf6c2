"""What `edgekit run` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.commands.running import _arrays, _text
from edgekit.core.errors import ConfigError


def test_arrays_of_an_archive(tmp_path: Path) -> None:
    """A .npz file gives one array per input."""
    np.savez(tmp_path / "x.npz", x=np.ones(3))
    assert list(_arrays(tmp_path / "x.npz")) == ["x"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"not an archive"])
def test_broken_archive(tmp_path: Path, content: bytes) -> None:
    """A file that is no archive is a configuration error."""
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="not a readable"):
        _arrays(tmp_path / "x.npz")


def test_single_array(tmp_path: Path) -> None:
    """An array without a name cannot be matched with an input."""
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(ConfigError, match="without a name"):
        _arrays(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a film", "a film"),
        ('["a", "b"]', ("a", "b")),
        ('{"question": "q", "context": "c"}', {"question": "q", "context": "c"}),
        ("[1] is a footnote", "[1] is a footnote"),
        ('["a", "b", "c"]', '["a", "b", "c"]'),
    ],
)
def test_line(line: str, value: object) -> None:
    """A line is a text unless it spells out a pair or a question."""
    assert _text(line) == value
