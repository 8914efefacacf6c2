"""One call's inputs in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import ConfigError
from edgekit.runtime.arrays import read_arrays


def test_arrays_of_an_archive(tmp_path: Path) -> None:
    """A .npz file gives one array per input; a scalar stays one."""
    np.savez(tmp_path / "x.npz", x=np.ones(3), rate=np.array(16_000))
    found = read_arrays(tmp_path / "x.npz")
    assert {name: array.shape for name, array in found.items()} == {"x": (3,), "rate": ()}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"not an archive"])
def test_broken_archive(tmp_path: Path, content: bytes) -> None:
    """A file that is no archive is a configuration error."""
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="not a readable"):
        read_arrays(tmp_path / "x.npz")


def test_single_array(tmp_path: Path) -> None:
    """An array without a name cannot be matched with an input."""
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(ConfigError, match="without a name"):
        read_arrays(tmp_path / "x.npy")


def test_long_text_in_the_place_of_a_path() -> None:
    """A text too long for a path is told by its beginning."""
    with pytest.raises(ConfigError, match=r"no file film film.*…"):
        read_arrays(Path("film " * 10_000))
