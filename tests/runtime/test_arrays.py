"""One call's inputs in a file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
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


def _archive(path: Path, *, flags: int = 0, method: int | None = None) -> None:
    """An archive of one array, whose entries say that it is encrypted, or packed in another way."""
    np.savez(path, x=np.ones(3))
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    for place in (6, entry + 8):
        data[place] |= flags
    if method is not None:
        data[8] = data[entry + 10] = method
    path.write_bytes(data)


def _packed_wrong(path: Path) -> None:
    np.savez_compressed(path, x=np.arange(1000))
    data = bytearray(path.read_bytes())
    begin = 30 + int.from_bytes(data[26:28], "little") + int.from_bytes(data[28:30], "little")
    # No block of deflate is of the kind 3.
    data[begin : begin + 8] = b"\xff" * 8
    path.write_bytes(data)


def _member(name: str, content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)

    return make


def _header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "make",
    [
        _packed_wrong,
        lambda path: _archive(path, flags=1),
        lambda path: _archive(path, method=99),
        _member("x.npy", _header(b"{'descr': '<f4', 'shape': (\n")),
        _member("x.npy", _header(b"{'descr': '<f4', \x00}\n")),
        _member("x.npy", _header(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")),
    ],
    ids=["deflate", "encrypted", "method", "open bracket", "zero byte", "objects"],
)
def test_damaged_members(make: Callable[[Path], None], tmp_path: Path) -> None:
    """Whatever numpy and zipfile raise for them."""
    make(tmp_path / "x.npz")
    with pytest.raises(ConfigError, match="not a readable"):
        read_arrays(tmp_path / "x.npz")


def test_member_that_is_no_array(tmp_path: Path) -> None:
    """numpy gives its bytes."""
    _member("notes.txt", b"I am a text.")(tmp_path / "x.npz")
    with pytest.raises(ConfigError, match=r"'notes\.txt', which is no array"):
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
