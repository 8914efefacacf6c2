"""DATA of pictures: folders by class, tables of paths, arrays."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from edgekit.core.errors import ConfigError
from edgekit.sources.data import check_data, read_samples
from edgekit.sources.data_roles import hash_inputs

LABELS = ("cat", "dog")


def save(path: Path, colour: int) -> Path:
    """A small picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (colour, 0, 0)).save(path)
    return path


def refuse(path: object, *_: object, **__: object) -> NoReturn:
    """What the system says of what may not be read."""
    raise PermissionError(13, "Permission denied", str(path))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two folders of pictures, called as the classes."""
    for number in range(3):
        save(tmp_path / "album" / "dog" / f"{number}.png", number)
        save(tmp_path / "album" / "cat" / "more" / f"{number}.png", 10 + number)
    (tmp_path / "album" / "cat" / "notes.txt").write_text("not a picture")
    save(tmp_path / "album" / ".thumbnails" / "0.png", 99)
    return tmp_path / "album"


def test_folder_for_each_class(album: Path) -> None:
    """The folder's name is the label; what is no picture is passed over."""
    samples = read_samples(str(album), "image-classification", labels=LABELS)
    assert samples.labels == (0, 0, 0, 1, 1, 1)
    assert [Path(str(row["image"])).name for row in samples.inputs] == [
        "0.png",
        "1.png",
        "2.png",
    ] * 2
    assert samples.problem == "single_label_classification"


def test_split_is_a_folder(album: Path, tmp_path: Path) -> None:
    """``path#train`` is the folder of that name."""
    shutil.move(album, tmp_path / "set" / "train")
    spec = f"{tmp_path / 'set'}#train"
    assert len(read_samples(spec, "image-classification", labels=LABELS)) == 6
    with pytest.raises(ConfigError):
        read_samples(f"{tmp_path / 'set'}#test", "image-classification", labels=LABELS)


def test_folder_that_no_class_is_called_by(album: Path) -> None:
    """The model's labels are told."""
    with pytest.raises(ConfigError, match="unknown to the model"):
        read_samples(str(album), "image-classification", labels=("bird", "fish"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_paths_in_a_table(kind: str, tmp_path: Path) -> None:
    """Relative to the table, and under another column's name."""
    save(tmp_path / "pictures" / "a.png", 1)
    save(tmp_path / "b.png", 2)
    rows = [("pictures/a.png", "dog"), (str(tmp_path / "b.png"), "cat")]
    table = tmp_path / f"t.{kind}"
    if kind == "csv":
        table.write_text("file,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    else:
        table.write_text(
            "".join(json.dumps({"file": path, "label": label}) + "\n" for path, label in rows)
        )
    samples = read_samples(
        str(table), "image-classification", labels=LABELS, columns={"image": "file"}
    )
    assert samples.labels == (1, 0)
    assert [row["image"] for row in samples.inputs] == [
        tmp_path / "pictures" / "a.png",
        tmp_path / "b.png",
    ]


def test_masks_are_paths_too(tmp_path: Path) -> None:
    """Of segmentation the label is a file."""
    save(tmp_path / "a.png", 1)
    save(tmp_path / "m.png", 0)
    (tmp_path / "t.csv").write_text("image,mask\na.png,m.png\n")
    samples = read_samples(str(tmp_path / "t.csv"), "image-segmentation", labels=LABELS)
    assert samples.labels == (tmp_path / "m.png",)


@pytest.mark.parametrize("cell", ["none.png", ""])
def test_picture_that_is_not_there(cell: str, tmp_path: Path) -> None:
    """Its row is told."""
    (tmp_path / "t.csv").write_text(f"image,label\n{cell},cat\n")
    with pytest.raises(ConfigError, match="row 1: image"):
        read_samples(str(tmp_path / "t.csv"), "image-classification", labels=LABELS)


def test_arrays_of_pictures(tmp_path: Path) -> None:
    """Whatever the graph's input is called, DATA calls it image."""
    images = np.random.default_rng(0).integers(0, 255, (4, 6, 5, 3)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", image=images, label=np.array([0, 1, 1, 0]))
    samples = read_samples(
        str(tmp_path / "d.npz"), "image-classification", labels=LABELS, inputs=("pixel_values",)
    )
    assert samples.labels == (0, 1, 1, 0)
    assert np.array_equal(np.asarray(samples.inputs[2]["image"]), images[2])


def test_role_follows_from_the_pixels_stored(tmp_path: Path) -> None:
    """A copy in another folder is the same sample."""
    first, second = save(tmp_path / "a.png", 5), tmp_path / "else" / "b.png"
    second.parent.mkdir()
    shutil.copy(first, second)
    other = save(tmp_path / "c.png", 6)
    assert hash_inputs({"image": first}) == hash_inputs({"image": second})
    assert hash_inputs({"image": first}) != hash_inputs({"image": other})


def test_columns_of_pictures_are_looked_at_before_anything_runs(album: Path) -> None:
    """A folder per class fits; a column that nobody has is told."""
    check_data(str(album), "image-classification")
    with pytest.raises(ConfigError, match="no column 'picture'"):
        check_data(str(album), "image-classification", columns={"image": "picture"})


def test_pictures_in_the_table_itself(tmp_path: Path) -> None:
    """Too long for a path; a message does not quote all of it."""
    (tmp_path / "t.csv").write_text(f"image,label\n{'iVBORw0KGgo' * 900},cat\n")
    with pytest.raises(ConfigError, match="row 1: image names the picture iVBOR") as caught:
        read_samples(str(tmp_path / "t.csv"), "image-classification", labels=LABELS)
    assert len(caught.value.message) < 400


def test_data_too_long_for_a_path() -> None:
    """No more than any other that is not there."""
    with pytest.raises(ConfigError, match="no data at"):
        read_samples("/" + "x" * 5000, "image-classification", labels=LABELS)


def test_pictures_that_cannot_be_read(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked into, or hashed: whichever comes first."""
    with monkeypatch.context() as patch, pytest.raises(ConfigError, match=r"0\.png.*Permission"):
        patch.setattr("edgekit.sources.data_pictures.looks_like_picture", refuse)
        read_samples(str(album), "image-classification", labels=LABELS)
    monkeypatch.setattr("edgekit.sources.data_roles.sha256_file", refuse)
    with pytest.raises(ConfigError, match=r"0\.png cannot be read: Permission"):
        read_samples(str(album), "image-classification", labels=LABELS)


@pytest.mark.parametrize("inside", [False, True])
def test_folders_that_cannot_be_read(
    inside: bool, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class is not left out for it."""
    listed = os.scandir

    def some(path: Path) -> object:
        return refuse(path) if Path(path).name == "more" else listed(path)

    if inside:
        monkeypatch.setattr(os, "scandir", some)
    else:
        monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        read_samples(str(album), "image-classification", labels=LABELS)


def test_a_task_of_pictures_may_read_arrays(tmp_path: Path) -> None:
    """Where the bundle has no processor, its inputs are called as they are."""
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 4), np.float32))
    samples = read_samples(
        str(tmp_path / "d.npz"), "image-classification", inputs=("x",), pictures=False
    )
    assert [set(row) for row in samples.inputs] == [{"x"}] * 3
