"""core/cachefolder.py: which folder caches lie in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.core.cachefolder import cache_folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_in_the_home_folder(tmp_path: Path) -> None:
    """Where nothing is set it is the user's; asking makes no folder."""
    assert cache_folder() == tmp_path / "home" / ".cache" / "edgekit"
    assert not (tmp_path / "home").exists()


def test_where_the_desktop_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`XDG_CACHE_HOME` is that of all programs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "edgekit"


@pytest.mark.parametrize("wrong", ["", "some/where"])
def test_relative_desktop_folder(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The specification has it ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", wrong)
    assert cache_folder() == tmp_path / "home" / ".cache" / "edgekit"


def test_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EDGEKIT_CACHE` goes before all, is the folder itself, and may begin in the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("EDGEKIT_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "home" / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_CACHE", "here")
    assert cache_folder() == tmp_path / "here"


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home gets a folder that nothing can be written to."""

    def nowhere(self: object = None) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", nowhere)
    folder = cache_folder()
    assert folder == Path(os.devnull, "edgekit")
    with pytest.raises(OSError, match=os.devnull):
        folder.mkdir(parents=True)
