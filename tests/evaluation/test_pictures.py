"""Pictures and masks of DATA as both models are given them, and what is compared of the answers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from edgekit.core.errors import ConfigError
from edgekit.evaluation import pictures
from edgekit.evaluation.accuracy import evaluate
from edgekit.evaluation.media import prepared_feeds
from edgekit.evaluation.pictures import _Reader, read_mask, read_masks
from edgekit.runtime import load
from edgekit.sources.data import Samples, read_samples
from edgekit.sources.loaded import LoadedSource
from tests.tiny_pictures import album, picture_bundle


def masked(folder: Path, mask: Path) -> Samples:
    """One picture of 8×6 with a mask."""
    Image.new("RGB", (8, 6)).save(folder / "p.png")
    (folder / "t.csv").write_text(f"image,mask\np.png,{mask}\n")
    return read_samples(str(folder / "t.csv"), "image-segmentation")


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("image-classification", (3,)), ("image-embedding", (3,)), ("image-states", (4,))],
)
def test_judged_is_the_output_that_answers(
    kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """By its name, wherever it stands; of many vectors their mean."""
    made = picture_bundle(tmp_path / "b", kind, other=True)
    reader = _Reader(made.manifest, None)
    encoded = reader.encode(np.full((5, 6, 3), 7, np.uint8), 0)
    with load(made.path) as model:
        outputs = {name: array[0] for name, array in model.run(reader.feeds([encoded])).items()}
    said = np.asarray(reader.prediction(outputs, encoded))
    assert said.shape == shape
    assert np.allclose(said, 7)


@pytest.mark.parametrize("kind", ["object-detection", "image-states"])
def test_feeds_of_pictures_without_labels(kind: str, tmp_path: Path) -> None:
    """Whatever the task, DATA calls them image."""
    made = picture_bundle(tmp_path / "b", kind)
    task = made.manifest.task
    np.savez(tmp_path / "d.npz", image=np.zeros((3, 5, 6, 3), np.uint8), label=np.arange(3))
    for data in (str(album(tmp_path / "album", 3)), str(tmp_path / "d.npz")):
        samples = read_samples(data, task, inputs=["pixel_values"], pictures=True)
        assert samples.labels is None
        feeds = prepared_feeds(made.manifest, samples, 2)
        assert [one["pixel_values"].shape for one in feeds] == [(1, 3, 4, 4)] * 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_masks_are_class_numbers(kind: str, tmp_path: Path) -> None:
    """Of one channel, whatever their colours are."""
    classes = (np.arange(48) % 3).astype(np.uint8).reshape(6, 8)
    image = Image.fromarray(classes)
    if kind in ("PNG", "GIF"):
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
        classes = np.asarray(image)
    path = tmp_path / f"m.{kind.lower()}"
    image.save(path)
    (found,) = read_masks(masked(tmp_path, path))
    assert np.array_equal(found, classes)


def test_masks_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's format, colours, a broken file, one too large, and no file at all."""
    path = tmp_path / "m"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mask(path)
    Image.new("RGB", (8, 6)).save(path, format="PNG")
    with pytest.raises(ConfigError, match="not class numbers"):
        read_mask(path)
    Image.new("L", (80, 60)).save(path, format="PNG")
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mask(path)
    path.write_bytes(whole)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 4000)
    with pytest.raises(ConfigError, match="too large: 80×60"):
        read_mask(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ConfigError, match="cannot be read: Image size"):
        read_mask(path)
    with pytest.raises(ConfigError, match="got int"):
        read_mask(3)


def test_masks_are_looked_at_before_a_model_runs(tmp_path: Path) -> None:
    """A wrong one at the end of DATA should not cost an hour."""
    made = picture_bundle(tmp_path / "b", "segmentation")
    Image.new("L", (6, 8)).save(tmp_path / "m.png")
    samples = masked(tmp_path, tmp_path / "m.png")
    # It has nothing that could run.
    source = cast("LoadedSource", SimpleNamespace(problem_type=None))
    with load(made.path) as model, pytest.raises(ConfigError, match="6×8 pixels, its picture 8×6"):
        evaluate(model, source, samples)
