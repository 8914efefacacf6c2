"""What the results of steps depend on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgekit.core import cpu, hashing
from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.hashing import canonical_json
from edgekit.core.manifest import Origin, Source, Step
from edgekit.pipeline.builds import keys
from edgekit.pipeline.builds.keys import (
    bundle_key,
    data_key,
    host_key,
    metric_key,
    source_key,
    versions_key,
)
from tests.onnx_models import linear, save
from tests.runtime.conftest import linear_graph, write_bundle
from tests.tiny_pictures import album


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Something like a checkpoint's folder."""
    folder = tmp_path / "checkpoint"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder


def test_source_is_its_content(checkpoint: Path) -> None:
    """Where the folder lies means nothing; every file of it, and the revision, does."""
    first = source_key(str(checkpoint), None)
    moved = checkpoint.rename(checkpoint.with_name("elsewhere"))
    assert source_key(str(moved), None) == first
    assert source_key(str(moved), "main") != first
    (moved / "1_Pooling" / "config.json").write_text("{ }")
    assert source_key(str(moved), None) != first


def test_licences_beside_a_graph_count(tmp_path: Path) -> None:
    """They go into the bundle; nothing else in the folder does."""
    path = save(linear(), tmp_path / "m.onnx")
    before = source_key(str(path), None)
    (tmp_path / "notes.txt").write_text("mine")
    assert source_key(str(path), None) == before
    (tmp_path / "LICENSE").write_text("Do what you like.")
    first = source_key(str(path), None)
    (tmp_path / "LICENSE").write_text("Do nothing.")
    assert source_key(str(path), None) != first != before


@pytest.mark.parametrize("source", ["module.py:make", "package.module:make", "some/model"])
def test_source_that_may_change_without_a_sign(source: str) -> None:
    """Code and names on a hub have no key."""
    assert source_key(source, None) is None


def test_data_is_its_content(tmp_path: Path) -> None:
    """A copy is the same DATA; another row or another split is not."""
    first, copy = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("text,label\na,0\n")
    copy.write_text("text,label\na,0\n")
    assert data_key(str(first)) == data_key(str(copy))
    assert data_key(f"{first}#test") != data_key(str(first))
    copy.write_text("text,label\na,1\n")
    assert data_key(str(first)) != data_key(str(copy))


def test_data_in_a_folder(checkpoint: Path) -> None:
    """A folder's files count."""
    before = data_key(str(checkpoint))
    (checkpoint / "more.jsonl").write_text("{}")
    assert data_key(str(checkpoint)) != before is not None


def test_no_data_and_data_elsewhere() -> None:
    """No DATA is a key of its own; a data set's name is none."""
    assert data_key(None) == ""
    assert data_key("some/dataset#validation") is None


def test_unreadable(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is told as such."""

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    # A folder's files are read by one function, a file by another module's name for it.
    monkeypatch.setattr(hashing, "sha256_file", refuse)
    monkeypatch.setattr(keys, "sha256_file", refuse)
    for ask in (source_key, lambda name, _: data_key(name)):
        with pytest.raises(ConfigError, match="No permission"):
            ask(str(checkpoint), None)
    with pytest.raises(ConfigError, match="No permission"):
        data_key(str(checkpoint / "model.safetensors"))


def test_metric() -> None:
    """A function of one's own may change while its name stays."""
    assert metric_key(None) == ""
    assert metric_key("f1") == "f1"
    assert metric_key("mine.py:score") is None


def test_bundle_and_its_original(tmp_path: Path) -> None:
    """The same answers, held to another original, are another input."""
    bundle = write_bundle(tmp_path / "b", linear_graph(), task="custom")
    made = Source("factory", "m:f", None, "aa", "Net", 1, "float32", None, Origin("m:f", "aa"))
    one = Bundle(bundle.path, replace(bundle.manifest, source=made))
    other = Bundle(bundle.path, replace(one.manifest, source=replace(made, origin=Origin("", "b"))))
    assert one.id == other.id == bundle.id
    assert len({canonical_json(bundle_key(each)) for each in (bundle, one, other)}) == 3


def test_libraries_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions and processor are told, as JSON that can be hashed."""
    versions = versions_key()["versions"]
    assert isinstance(versions, dict)
    assert {"edgekit", "python", "torch", "onnxruntime", "openvino", "nncf"} <= set(versions)
    before = canonical_json(host_key())
    monkeypatch.setattr(cpu, "available_threads", lambda: 77)
    assert canonical_json(host_key()) != before


def test_a_table_that_names_pictures_has_no_key(tmp_path: Path) -> None:
    """The pictures may change while the table stays; an archive holds them itself."""
    table, archive = tmp_path / "data.csv", tmp_path / "data.npz"
    table.write_text("image,label\na.png,x\n")
    archive.write_bytes(b"pixels")
    assert keys.data_key(str(table), column="image") is None
    assert keys.data_key(str(table)) is not None
    assert keys.data_key(str(archive), column="image") is not None


def test_a_bundle_by_other_steps_has_another_key(tmp_path: Path) -> None:
    """Whoever asks for less drop may come to the same answers, and has to tell of its own rows."""
    bundle = write_bundle(tmp_path / "b", linear_graph(), task="custom")

    def by(drop: str, seconds: float) -> Bundle:
        step = Step("quantize", {"max_drop": drop}, seconds=seconds)
        return Bundle(bundle.path, replace(bundle.manifest, steps=(step,)))

    first, same, other = by("1%", 1.0), by("1%", 2.0), by("2%", 1.0)
    assert first.id == other.id
    assert bundle_key(first) == bundle_key(same)
    assert bundle_key(first) != bundle_key(other)


def test_albums_are_what_is_read_of_them(tmp_path: Path) -> None:
    """The pictures of every class, also behind a link; nothing else in the folder."""
    red = tmp_path / "elsewhere" / "red"
    album(tmp_path / "elsewhere", 1)
    data = album(tmp_path / "album", 3)
    shutil.rmtree(data / "red")
    (data / "red").symlink_to(red, target_is_directory=True)
    before = data_key(str(data), column="image")
    assert before is not None
    (data / "notes.txt").write_text("not a picture")
    assert data_key(str(data), column="image") == before
    (red / "0.png").write_bytes((data / "green" / "1.png").read_bytes())
    assert data_key(str(data), column="image") != before


def test_folders_of_pictures_and_sounds(tmp_path: Path) -> None:
    """A key is of the files that the task reads, whatever lies beside them."""
    data = album(tmp_path / "genres", 2)
    for number, genre in enumerate(sorted(data.iterdir())):
        noise = np.random.default_rng(number).normal(0, 0.1, 50)
        soundfile.write(genre / "song.wav", noise, 8_000)
    pictures, sounds = (data_key(str(data), column=name) for name in ("image", "audio"))
    assert pictures is not None
    assert sounds is not None
    soundfile.write(data / "red" / "song.wav", np.zeros(50), 8_000)
    assert data_key(str(data), column="image") == pictures
    assert data_key(str(data), column="audio") != sounds


def test_a_table_beside_its_sounds_has_no_key(tmp_path: Path) -> None:
    """The folder of its clips is no class."""
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "0.wav", np.zeros(50), 8_000)
    assert data_key(str(tmp_path), column="audio") is not None
    (tmp_path / "data.csv").write_text("audio,transcription\nclips/0.wav,hello\n")
    assert data_key(str(tmp_path), column="audio") is None


def test_a_folder_with_a_table_of_pictures_has_no_key(tmp_path: Path) -> None:
    """The pictures that it names may lie anywhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("image,label\n../a.png,x\n")
    assert data_key(str(tmp_path / "data"), column="image") is None
    assert data_key(str(tmp_path / "data")) is not None
