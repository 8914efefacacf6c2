"""Pictures and masks of DATA as both models are given them, and what is compared of the answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from edgekit.core.errors import ConfigError
from edgekit.evaluation import picture_truths
from edgekit.evaluation.accuracy import evaluate
from edgekit.evaluation.media import prepared_feeds
from edgekit.evaluation.metrics import METRICS
from edgekit.evaluation.picture_truths import MaskTruths, check_truths, masks_notes, read_mask
from edgekit.evaluation.pictures import _Reader
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
    encoded = reader.processor.encode(np.full((5, 6, 3), 7, np.uint8))
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


def test_a_picture_that_is_broken_is_told_by_its_row(tmp_path: Path) -> None:
    """Its place in DATA, and what is wrong with it."""
    made = picture_bundle(tmp_path / "b", "image-states")
    samples = read_samples(str(album(tmp_path / "album", 3)), "feature-extraction", pictures=True)
    cut_off = cast("Path", samples.inputs[1]["image"])
    cut_off.write_bytes(cut_off.read_bytes()[:40])
    with pytest.raises(ConfigError, match=r"^Row 2 of DATA cannot be read: .*cannot be decoded"):
        list(prepared_feeds(made.manifest, samples, 2))


def test_masks_that_are_reduced_are_told(tmp_path: Path) -> None:
    """Somebody may have done so before; without labels, or reducing, there is nothing to tell."""
    Image.new("L", (8, 6)).save(tmp_path / "m.png")
    samples = masked(tmp_path, tmp_path / "m.png")
    manifest = picture_bundle(tmp_path / "b", "segmentation").manifest
    assert masks_notes(samples, manifest) == []
    post = {"kind": "segmentation", "reduce_labels": True}
    reduces = replace(manifest, processor={**(manifest.processor or {}), "post": post})
    (told,) = masks_notes(samples, reduces)
    assert "not reduced yet" in told
    assert masks_notes(replace(samples, labels=None), reduces) == []


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
    samples = masked(tmp_path, path)
    check_truths(samples)
    assert np.array_equal(MaskTruths(METRICS["pixel-accuracy"], samples, False).read(0), classes)


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
    monkeypatch.setattr(picture_truths, "MOST_PIXELS", 4000)
    with pytest.raises(ConfigError, match="too large: 80×60"):
        read_mask(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ConfigError, match="too large: it has more than the 2,000 pixels"):
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


def test_size_of_a_picture_that_lies_on_its_side(tmp_path: Path) -> None:
    """A mask has the size of the upright picture, whatever says how it was held, and where."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (6, 8)).save(tmp_path / "m.png")
    for kind in ("png", "jpg"):
        Image.new("RGB", (8, 6)).save(tmp_path / f"p.{kind}", exif=exif)
        (tmp_path / "t.csv").write_text(f"image,mask\np.{kind},m.png\n")
        samples = read_samples(str(tmp_path / "t.csv"), "image-segmentation")
        check_truths(samples)
        Image.new("L", (8, 6)).save(tmp_path / "lying.png")
        (tmp_path / "t.csv").write_text(f"image,mask\np.{kind},lying.png\n")
        with pytest.raises(ConfigError, match="8×6 pixels, its picture 6×8"):
            check_truths(read_samples(str(tmp_path / "t.csv"), "image-segmentation"))


def test_size_that_is_told_behind_the_pixels(tmp_path: Path) -> None:
    """A PNG may say at its end how it was held: it is decoded where that would explain the size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "p.png", exif=exif)
    whole = (tmp_path / "p.png").read_bytes()
    begin = whole.index(b"eXIf") - 4
    end = begin + 12 + int.from_bytes(whole[begin : begin + 4], "big")
    close = whole.index(b"IEND") - 4
    moved = whole[:begin] + whole[end:close] + whole[begin:end] + whole[close:]
    (tmp_path / "p.png").write_bytes(moved)
    Image.new("L", (6, 8)).save(tmp_path / "m.png")
    check_truths(masked_as(tmp_path))


def masked_as(folder: Path) -> Samples:
    """The picture and the mask that a folder holds."""
    (folder / "t.csv").write_text("image,mask\np.png,m.png\n")
    return read_samples(str(folder / "t.csv"), "image-segmentation")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_that_count_classes_from_one(dtype: type, tmp_path: Path) -> None:
    """0 is nobody's and does not count, nor does what did not count before."""
    stored = np.array([[0, 1, 2], [150, 254, 255]], dtype=dtype)
    Image.fromarray(stored).save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png", reduced=True)
    assert found.tolist() == [[255, 0, 1], [149, 253, 255]]
    assert read_mask(tmp_path / "m.png").tolist() == stored.tolist()


def test_masks_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time is read, once, and none is left of it but some numbers."""
    Image.new("RGB", (8, 6)).save(tmp_path / "p.png")
    Image.new("L", (8, 6)).save(tmp_path / "m.png")
    samples = masked_as(tmp_path)
    read = []
    real = picture_truths.read_mask
    monkeypatch.setattr(
        picture_truths, "read_mask", lambda *a, **k: read.append(a) or real(*a, **k)
    )
    truths = MaskTruths(METRICS["pixel-accuracy"], samples, False)
    zeros = np.zeros((6, 8), np.uint8)
    ones = zeros.copy()
    ones[0] = 1
    before, after, told = truths.rows(0, zeros, ones)
    assert (before.tolist(), after.tolist()) == ([48.0, 48.0], [40.0, 48.0])
    assert told == ("pixel-accuracy 1.0000", "pixel-accuracy 0.8333, 16.67% of pixels differ")
    assert len(read) == 1


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        ([3], ("a", "b", "c"), "The label 3 is unknown to the model, which has 3 classes"),
        ([1_000_000_000], (), "no more than 100000 classes"),
        ([], ("a",), "No picture has a box to be found"),
    ],
)
def test_boxes_of_no_class(
    labels: list[int], classes: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    """And none at all: before anything runs."""
    Image.new("RGB", (8, 6)).save(tmp_path / "p.png")
    boxes = {"boxes": [[0, 0, 3, 3]] * len(labels), "labels": labels}
    (tmp_path / "d.jsonl").write_text(json.dumps({"image": "p.png", "objects": boxes}))
    samples = read_samples(str(tmp_path / "d.jsonl"), "object-detection")
    with pytest.raises(ConfigError, match=told):
        check_truths(samples, classes)


def test_boxes_of_another_picture(tmp_path: Path) -> None:
    """The size that they were drawn in is told, and is another one."""
    Image.new("RGB", (8, 6)).save(tmp_path / "p.png")
    row = {"image": "p.png", "objects": {"boxes": [[0, 0, 3, 3]], "labels": [0], "size": [9, 8]}}
    (tmp_path / "d.jsonl").write_text(json.dumps(row))
    samples = read_samples(str(tmp_path / "d.jsonl"), "object-detection")
    with pytest.raises(ConfigError, match=r"sample 1 were drawn in a picture of 8×9 .* has 8×6"):
        check_truths(samples)
