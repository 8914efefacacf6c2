"""Pictures become the tensors that the rules describe."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgekit.core.errors import BundleCorrupt, InputMismatch, MissingDependency
from edgekit.runtime.pictures import processor as module
from edgekit.runtime.pictures.processor import PictureProcessor
from tests.runtime.pictures.conftest import draw, stored

SCALE = {"op": "rescale", "factor": 1 / 255}


def make(*ops: dict[str, object], **keys: object) -> PictureProcessor:
    """A processor of some operations."""
    size = keys.pop("size", None)
    return PictureProcessor({"kind": "image", "ops": list(ops), **keys}, size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("filter", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_resize_is_pillows(filter: str) -> None:
    """Every filter of Pillow by its name."""
    image = draw(40, 30)
    found = make({"op": "resize", "size": {"height": 17, "width": 23}, "filter": filter})
    expected = image.resize((23, 17), Image.Resampling[filter.upper()])
    assert np.array_equal(
        found.encode(image).pixels, np.moveaxis(np.asarray(expected), -1, 0).astype(np.float32)
    )


@pytest.mark.parametrize("size", [(9, 7), (33, 50), (1, 1), (30, 40)])
def test_resize_without_antialias_takes_four_neighbours(size: tuple[int, int]) -> None:
    """Checked against the formula, written out pixel by pixel."""
    image = draw(40, 30)
    plain = np.asarray(image).astype(np.float64)
    height, width = size
    expected = np.empty((height, width, 3))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * 30 / height - 0.5, 0)
            x = max((column + 0.5) * 40 / width - 0.5, 0)
            top, left = int(y), int(x)
            below, right = min(top + 1, 29), min(left + 1, 39)
            dy, dx = y - top, x - left
            expected[row, column] = (1 - dy) * (
                (1 - dx) * plain[top, left] + dx * plain[top, right]
            ) + dy * ((1 - dx) * plain[below, left] + dx * plain[below, right])
    resize = {"op": "resize", "size": {"height": height, "width": width}, "antialias": False}
    found = make(resize).encode(image).pixels
    assert np.abs(np.moveaxis(found, 0, -1) - expected).max() <= 0.501


def test_crop_of_a_larger_picture() -> None:
    """The middle, the odd pixel at the end."""
    image = draw(11, 8)
    found = make({"op": "center_crop", "height": 5, "width": 4}).encode(image).pixels
    assert np.array_equal(np.moveaxis(found, 0, -1), np.asarray(image)[1:6, 3:7])


def test_crop_of_a_smaller_picture_is_filled_with_black() -> None:
    """The odd row of black comes first, as in transformers."""
    image = Image.new("RGB", (2, 2), (9, 9, 9))
    found = make({"op": "center_crop", "height": 5, "width": 4}).encode(image).pixels
    assert np.array_equal(np.argwhere(found[0] == 9)[[0, -1]], [[2, 1], [3, 2]])
    assert np.count_nonzero(found[0]) == 4


def test_numbers_are_those_of_float32_steps() -> None:
    """Rescaling in float64, cut to float32; subtraction and division in float32."""
    image = draw(6, 4)
    found = make(
        {**SCALE, "offset": -1},
        {"op": "normalize", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.7]},
    ).encode(image)
    values = (np.asarray(image).astype(np.float64) / 255).astype(np.float32)
    values = (np.asarray(image).astype(np.float64) * (1 / 255)).astype(np.float32) - np.float32(1)
    mean, std = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.3, 0.7], np.float32)
    assert np.array_equal(np.moveaxis(found.pixels, 0, -1), (values - mean) / std)


def test_channels_and_layouts() -> None:
    """BGR, grey, and channels last."""
    image = draw(6, 4)
    plain = np.asarray(image).astype(np.float32)
    assert np.array_equal(make(layout="hwc").encode(image).pixels, plain)
    assert np.array_equal(make(layout="hwc", channels="bgr").encode(image).pixels, plain[..., ::-1])
    grey = make(channels="grey").encode(image).pixels
    assert np.array_equal(grey[0], np.asarray(image.convert("L")).astype(np.float32))
    assert grey.shape == (1, 4, 6)


def test_pad_fills_bottom_and_right() -> None:
    """After the numbers are made: the fill is a value of the tensor."""
    image = Image.new("RGB", (3, 2), (255, 255, 255))
    encoded = make(SCALE, {"op": "pad", "height": 4, "width": 5, "value": -1}).encode(image)
    assert encoded.pixels.shape == (3, 4, 5)
    assert (encoded.pixels[:, :2, :3] == 1).all()
    assert encoded.pixels.sum() == 3 * (6 - 14)
    assert (encoded.used, encoded.size) == ((2, 3), (2, 3))


def test_pictures_of_several_sizes_are_filled_up_and_masked() -> None:
    """The mask says what is picture."""
    maker = make(inputs=["pixel_values", "pixel_mask"])
    feeds = maker.collate([maker.encode(draw(5, 3)), maker.encode(draw(4, 6))])
    assert feeds["pixel_values"].shape == (2, 3, 6, 5)
    assert feeds["pixel_mask"].shape == (2, 6, 5)
    assert feeds["pixel_mask"].sum(axis=(1, 2)).tolist() == [15, 24]
    assert (feeds["pixel_values"][0][:, 3:] == 0).all()


def test_fixed_graph_takes_smaller_pictures_and_refuses_larger_ones() -> None:
    """Filled up to its size; what does not fit is told with both sizes."""
    maker = make(inputs=["pixel_values", "pixel_mask"], size=(8, 8))
    assert maker.encode(draw(5, 3)).pixels.shape == (3, 8, 8)
    with pytest.raises(InputMismatch, match="9×3 pixels, resized, does not fit into the 8×8"):
        maker.encode(draw(9, 3))


def test_graph_of_another_size_than_the_processor() -> None:
    """They contradict each other: the bundle is wrong."""
    with pytest.raises(BundleCorrupt, match="makes pictures of 4×4, the graph takes 8×8"):
        make({"op": "resize", "size": {"height": 4, "width": 4}}, size=(8, 8))


def test_limit_of_pillow_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app may have set it below what a bundle asks for."""
    processor = make({"op": "center_crop", "height": 300, "width": 300})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputMismatch, match="cropped to 300×300: it would have more than"):
        processor.encode(np.zeros((4, 4, 3), np.uint8))


def test_graph_of_a_size_that_no_memory_holds() -> None:
    """A manifest can claim any number."""
    with pytest.raises(BundleCorrupt, match="limit is 67 million"):
        PictureProcessor({"kind": "image", "ops": []}, size=(1 << 20, 1 << 20))


def test_one_pixel_is_a_picture() -> None:
    """It has nothing to show, and is no error."""
    found = make({"op": "resize", "size": {"shortest_edge": 8}}).encode(stored(draw(1, 1)))
    assert found.pixels.shape == (3, 8, 8)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings it is named."""

    def missing(name: str, extra: str) -> None:
        raise MissingDependency(f"{name} {extra}")

    monkeypatch.setattr(module, "require", missing)
    with pytest.raises(MissingDependency, match="PIL vision"):
        make()
