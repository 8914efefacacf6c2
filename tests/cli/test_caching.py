"""``edgekit cache`` as a command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgekit.core.cachefolder import VARIABLE
from tests.cli.test_main import edgekit


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an entry of a build, not used since 1970, and a calibration of today."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(VARIABLE, str(folder))
    entry = folder / "build" / "compile-0123456789ab"
    entry.mkdir(parents=True)
    (entry / "entry.json").write_text("{}")
    os.utime(entry, (1000, 1000))
    (folder / "calibration").mkdir()
    (folder / "calibration" / "ab.json").write_text("1234")
    return folder


def test_list_as_json(cache: Path) -> None:
    """One object: the folder and its entries, the least recently used first."""
    done = edgekit("cache", "list", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["folder"] == str(cache)
    assert [(one["kind"], one["bytes"]) for one in result["entries"]] == [
        ("compile", 2), ("calibration", 4),
    ]  # fmt: skip
    assert result["entries"][0]["used"] == 1000
    assert result["entries"][0]["path"].endswith("compile-0123456789ab")


def test_list_for_a_person(cache: Path) -> None:
    """A table with the sum below."""
    done = edgekit("cache", "list")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["last", "used", "step", "of", "for", "size", "entry"]
    assert lines[2][1:4] == ["days", "ago", "compile"]
    assert lines[2][-1] == "compile-0123456789ab"
    assert lines[3][:3] == ["just", "now", "calibration"]
    assert done.stdout.splitlines()[-1] == f"2 entries, 6 B in {cache}"


def test_list_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is not there is empty, and stays not there."""
    folder = tmp_path / "none"
    monkeypatch.setenv(VARIABLE, str(folder))
    done = edgekit("cache", "list")
    assert (done.returncode, done.stdout) == (0, f"0 entries, 0 B in {folder}\n")
    assert json.loads(edgekit("cache", "clear", "--json").stdout) == {"removed": 0, "bytes": 0}
    assert not folder.exists()


def test_clear(cache: Path) -> None:
    """What is old, or all; told as one object or one sentence."""
    done = edgekit("cache", "clear", "--older-than", "30", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"removed": 1, "bytes": 2}
    assert (cache / "calibration" / "ab.json").exists()
    done = edgekit("cache", "clear")
    assert (done.returncode, done.stdout) == (0, "Removed 1 entry, 4 B.\n")
    assert json.loads(edgekit("cache", "list", "--json").stdout)["entries"] == []


@pytest.mark.parametrize(
    "words", [("clear", "--older-than", "-1"), ("clear", "--older-than", "nan"), ("empty",)]
)
def test_wrong_usage(cache: Path, words: tuple[str, ...]) -> None:
    """Exit 2, and nothing is removed."""
    done = edgekit("cache", *words, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert (cache / "build" / "compile-0123456789ab").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the super-user")
def test_an_entry_that_must_not_be_removed(cache: Path) -> None:
    """It is a matter of permissions, exit 2, not a crash."""
    (cache / "build").chmod(0o555)
    try:
        done = edgekit("cache", "clear", "--json")
    finally:
        (cache / "build").chmod(0o755)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
