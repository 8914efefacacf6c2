"""`edgekit run` on sounds: paths, folders, patterns, and what is no sound."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.test_main import edgekit
from tests.runtime.sound.conftest import RATE, speller, spoken, stored, wave


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that spells what it hears."""
    return speller(tmp_path_factory.mktemp("run") / "speech").path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sounds, a text called as one, and broken ones."""
    made = tmp_path / "calls"
    made.mkdir()
    soundfile.write(made / "b.flac", spoken("ba"), RATE)
    # 48 kHz, two channels, eight bits.
    sound = np.repeat(spoken("ab"), 48)
    soundfile.write(made / "a.wav", np.stack([sound] * 2, axis=1), 48 * RATE, subtype="PCM_U8")
    (made / "notes.wav").write_text("not a sound")
    return made


def test_folder(bundle: Path, folder: Path) -> None:
    """One line for each sound; what is none is passed over."""
    done = edgekit("run", bundle, folder)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["sound"]).name for line in lines] == ["a.wav", "b.flac"]
    assert [line["prediction"]["text"] for line in lines] == ["ab", "ba"]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("notes.wav", b"not a sound", "is not a sound"),
        ("none.wav", None, "cannot be opened"),
        ("empty.wav", stored(np.zeros(0, np.float32)), "holds no samples"),
        ("cut.flac", stored(wave(9_000), format="FLAC")[:4_000], "cut"),
        ("nan.wav", stored(np.array([np.nan] * 50), subtype="FLOAT"), "NaN"),
        ("short.wav", stored(wave(5)), "at least 10"),
    ],
)
def test_wrong_files(
    bundle: Path, tmp_path: Path, name: str, data: bytes | None, told: str
) -> None:
    """What was typed is at fault: exit code 2."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    done = edgekit("run", bundle, tmp_path / name, "--json")
    assert done.returncode == 2, done.stderr
    assert told in json.loads(done.stdout)["error"]["message"]


def test_save_is_for_pictures(bundle: Path, folder: Path, tmp_path: Path) -> None:
    """A sound has nothing to draw on."""
    done = edgekit("run", bundle, folder, "--save", tmp_path / "out", "--json")
    assert done.returncode == 2
    assert "draws on pictures" in json.loads(done.stdout)["error"]["message"]


def test_missing_package(
    bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3 with the line that installs it."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "soundfile.py").write_text("raise ModuleNotFoundError(name='soundfile')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(shadow), *sys.path]))
    done = edgekit("run", bundle, folder, "--json")
    assert done.returncode == 3, done.stderr
    assert "audio" in json.loads(done.stdout)["error"]["hint"]
