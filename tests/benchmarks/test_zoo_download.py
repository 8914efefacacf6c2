"""The zoo's fetching: pinned bytes or nothing, and no code of a package is run."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.zoo import download
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Archive, Client

CONTENT = b"the archive"


def pinned(
    content: bytes, filename: str = "toy-1.0.tgz", client: Client = "npm", package: str = "toy"
) -> Archive:
    """Return a row that pins exactly these bytes."""
    sha256 = hashlib.sha256(content).hexdigest()
    return Archive(client, package, "1.0", filename, len(content), sha256)


class Registry:
    """A client that serves the given bytes and counts how often it is asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.calls = 0

    def __call__(self, archive: Archive, folder: Path) -> None:
        self.calls += 1
        (folder / archive.filename).write_bytes(self.content)


def left(folder: Path) -> set[str]:
    """Return the names below a folder besides locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_the_pinned_archive_is_kept(tmp_path: Path) -> None:
    """The right bytes arrive under the archive's name, and nothing else stays."""
    path = download.obtain(pinned(CONTENT), tmp_path, {"npm": Registry(CONTENT)})
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == {"toy-1.0.tgz"}


@pytest.mark.parametrize("served", [b"The archive", b"the archive and more", b""])
def test_other_bytes_are_refused(tmp_path: Path, served: bytes) -> None:
    """A changed, longer or empty archive is an error, and nothing of it stays."""
    with pytest.raises(ZooError, match=r"toy-1\.0\.tgz has (sha256|\d+ bytes)"):
        download.obtain(pinned(CONTENT), tmp_path, {"npm": Registry(served)})
    assert left(tmp_path) == set()


def test_an_archive_is_fetched_once(tmp_path: Path) -> None:
    """An archive that is there and right needs no client."""
    registry = Registry(CONTENT)
    for _ in range(2):
        download.obtain(pinned(CONTENT), tmp_path, {"npm": registry})
    assert registry.calls == 1


def test_a_damaged_archive_is_fetched_again(tmp_path: Path) -> None:
    """A cached archive with other bytes is replaced, not used."""
    (tmp_path / "toy-1.0.tgz").write_bytes(b"damaged....")
    path = download.obtain(pinned(CONTENT), tmp_path, {"npm": Registry(CONTENT)})
    assert path.read_bytes() == CONTENT


def test_missing_npm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without npm the message says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ZooError, match=r"not on PATH\. Install Node\.js"):
        download.obtain(pinned(CONTENT), tmp_path / "downloads")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that pip uses instead of any index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_a_source_distribution_runs_nothing(tmp_path: Path, shelf: Path) -> None:
    """pip brings the file although its setup.py would fail and leave a trace."""
    trace = tmp_path / "trace"
    script = f"open({str(trace)!r}, 'w').close()\nraise SystemExit('setup.py was run')\n"
    sdist = shelf / "zoo_toy-1.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as bag:
        for name, text in {"setup.py": script, "PKG-INFO": "Name: zoo-toy\nVersion: 1.0\n"}.items():
            info = tarfile.TarInfo(f"zoo_toy-1.0/{name}")
            info.size = len(text)
            bag.addfile(info, io.BytesIO(text.encode()))
    row = pinned(sdist.read_bytes(), sdist.name, "sdist", "zoo_toy")
    path = download.obtain(row, tmp_path / "downloads")
    assert path.read_bytes() == sdist.read_bytes()
    assert not trace.exists()


def test_pip_refuses_another_wheel(tmp_path: Path, shelf: Path) -> None:
    """A wheel of the right name with other bytes is not even kept by pip."""
    wheel = shelf / "zoo_toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as bag:
        bag.writestr("zoo_toy-1.0.dist-info/METADATA", "Name: zoo-toy\nVersion: 1.0\n")
        bag.writestr("zoo_toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        bag.writestr("zoo_toy-1.0.dist-info/RECORD", "")
    row = pinned(b"another wheel", wheel.name, "wheel", "zoo_toy")
    with pytest.raises(ZooError, match=r"pip could not fetch zoo_toy 1\.0"):
        download.obtain(row, tmp_path / "downloads")
    assert left(tmp_path / "downloads") == set()
