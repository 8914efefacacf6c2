"""Reading single members of archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError


def packed(**files: bytes) -> bytes:
    """Return a gzipped tar file of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bag:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bag.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_tar_in_a_tar_is_read(tmp_path: Path) -> None:
    """The bytes of a member may be an archive again."""
    outer = tmp_path / "outer.tar.gz"
    outer.write_bytes(packed(inner=packed(text=b"hello")))
    assert members.read_tar(members.read_tar(outer, "inner"), "text") == b"hello"


def test_a_link_is_refused(tmp_path: Path) -> None:
    """A member that points elsewhere is not followed."""
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as bag:
        info = tarfile.TarInfo("data")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        bag.addfile(info)
    with pytest.raises(ZooError, match="not a regular file"):
        members.read_tar(path, "data")


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    """Both kinds of archive say which member they do not hold."""
    tar, bag = tmp_path / "a.tar.gz", tmp_path / "b.whl"
    tar.write_bytes(packed(text=b"hello"))
    with zipfile.ZipFile(bag, "w") as out:
        out.writestr("text", b"hello")
    with pytest.raises(ZooError, match=r"a\.tar\.gz holds no other"):
        members.read_tar(tar, "other")
    with pytest.raises(ZooError, match=r"b\.whl holds no other"):
        members.read_zip(bag, "other")


def test_a_debian_package_is_read(tmp_path: Path) -> None:
    """Its regular files below a folder; padding between members is passed over."""
    path = tmp_path / "a.deb"
    content = packed(**{"./a/one": b"1", "./b/two": b"2"})
    members_of = {"debian-binary": b"2.0", "control.tar.xz": b"", "data.tar.gz": content}
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, data in members_of.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode())
            out.write(data + b"\n" * (len(data) % 2))
    assert members.read_deb(path, "./a/") == {"./a/one": b"1"}
    path.write_bytes(b"something else")
    with pytest.raises(ZooError, match="not a Debian package"):
        members.read_deb(path, "./")


def test_listing_is_sorted_and_without_folders(tmp_path: Path) -> None:
    """Only files below the prefix are listed."""
    path = tmp_path / "b.whl"
    with zipfile.ZipFile(path, "w") as out:
        for name in ("model/z", "model/", "model/a", "code.py"):
            out.writestr(name, b"")
    assert members.list_zip(path, "model/") == ["model/a", "model/z"]
