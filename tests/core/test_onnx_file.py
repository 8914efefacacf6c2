"""ONNX files of others: whole or not, and the files that they read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgekit.core.errors import ConfigError, SourceError
from edgekit.core.onnx_file import check_onnx, model_bytes, model_files, model_hash, names_onnx
from tests.onnx_models import linear, point_to, save, save_outside


def test_sound_files_pass(tmp_path: Path) -> None:
    """In one file, and with weights beside it."""
    check_onnx(save(linear(), tmp_path / "one.onnx"))
    path = save_outside(linear(), tmp_path / "two.onnx")
    check_onnx(path)
    assert list(model_files(path)) == ["weights.data"]
    assert model_bytes(path) == path.stat().st_size + (tmp_path / "weights.data").stat().st_size


@pytest.mark.parametrize(
    "data", [b"This is a text.\n", b"{}", b"\x00" * 64, b"PK\x03\x04" + b"\x00" * 40, b"\xff" * 9]
)
def test_other_files_are_no_onnx(data: bytes, tmp_path: Path) -> None:
    """Whatever they are called."""
    path = tmp_path / "notes.onnx"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="is not an ONNX file"):
        check_onnx(path)


def test_empty_file(tmp_path: Path) -> None:
    """A download that never began."""
    path = tmp_path / "m.onnx"
    path.touch()
    with pytest.raises(SourceError, match="is empty"):
        check_onnx(path)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_cut_short(share: float, tmp_path: Path) -> None:
    """At any place a download can end."""
    path = save(linear(), tmp_path / "m.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match="cut short: the message needs"):
        check_onnx(path)


def test_fields_of_later_releases(tmp_path: Path) -> None:
    """A field that ONNX has added since makes no other file of it."""
    path = save(linear(), tmp_path / "m.onnx")
    # Field 40, of two bytes.
    path.write_bytes(path.read_bytes() + b"\xc2\x02\x02ok")
    check_onnx(path)


def test_nothing_there(tmp_path: Path) -> None:
    """A wrong path, and a folder, are usage errors."""
    with pytest.raises(ConfigError, match="no file"):
        check_onnx(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="not a file"):
        check_onnx(tmp_path)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("../weights.data", "leads out of the bundle"),
        ("/etc/passwd", "is absolute"),
        ("a\\b", "back-slash"),
        ("none.data", "is missing"),
    ],
)
def test_weights_elsewhere(location: str, told: str, tmp_path: Path) -> None:
    """Only what lies beside the model is read."""
    (tmp_path / "model").mkdir()
    path = save_outside(linear(), tmp_path / "model" / "m.onnx")
    shutil.copy(tmp_path / "model" / "weights.data", tmp_path)
    point_to(path, lambda told: told.update(location=location))
    with pytest.raises(SourceError, match=told):
        model_files(path)


def test_link_that_leads_out(tmp_path: Path) -> None:
    """A harmless name may be a link to another folder's file."""
    (tmp_path / "model").mkdir()
    path = save_outside(linear(), tmp_path / "model" / "m.onnx")
    weights = tmp_path / "model" / "weights.data"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="leads out of its folder"):
        model_files(path)


def test_hash_is_of_graph_and_weights(tmp_path: Path) -> None:
    """A copy under another name is the same model; other weights are another one."""
    path = save_outside(linear(), tmp_path / "m.onnx")
    before = model_hash(path)
    copy = Path(shutil.copy(path, tmp_path / "other.onnx"))
    assert model_hash(copy) == before
    weights = tmp_path / "weights.data"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert model_hash(path) != before


def test_names_of_onnx(tmp_path: Path) -> None:
    """By the ending, or as a bundle; not every folder is one."""
    assert names_onnx("a/M.ONNX")
    assert not names_onnx(str(tmp_path))
    (tmp_path / "edgekit.json").touch()
    assert names_onnx(str(tmp_path))


def test_folders_called_as_files(tmp_path: Path) -> None:
    """A checkpoint is one under any name; a bundle stays one."""
    folder = tmp_path / "checkpoint.onnx"
    folder.mkdir()
    assert not names_onnx(str(folder))
    (folder / "edgekit.json").touch()
    assert names_onnx(str(folder))
