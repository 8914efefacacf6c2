"""Boxes and masks on copies of their pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgekit.core.errors import ConfigError
from edgekit.runtime.pictures.drawing import draw_answer

GREY = (100, 100, 100)


def box(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, object]:
    """A detection."""
    edges = {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}
    return {"label": label, "score": 0.9, "box": edges}


def test_boxes_are_outlined_in_the_colour_of_their_label() -> None:
    """On a copy; what is inside stays to be seen."""
    image = Image.new("RGB", (200, 150), GREY)
    found = draw_answer(
        image,
        "object-detection",
        [box("cat", 20, 40, 90, 120), box("dog", 110, 40, 180, 120), box("cat", 5, 130, 30, 145)],
    )
    assert image.getcolors() == [(200 * 150, GREY)]
    cat, dog = found.getpixel((20, 80)), found.getpixel((110, 80))
    assert GREY != cat != dog != GREY
    assert found.getpixel((5, 140)) == cat
    assert found.getpixel((55, 80)) == GREY


def test_boxes_beyond_the_picture_are_drawn_as_far_as_they_go() -> None:
    """Detectors are not exact; nor do they all know left from right."""
    image = Image.new("RGB", (60, 40), GREY)
    boxes = [box("a", -30, -20, 300, 200), box("b", 50, 30, 10, 5)]
    assert draw_answer(image, "object-detection", boxes).size == (60, 40)


def test_masks_are_tinted() -> None:
    """Where the mask is, and nowhere else."""
    image = Image.new("RGB", (200, 150), GREY)
    where = np.zeros((150, 200), np.uint8)
    where[75:] = 255
    answer = [{"label": "road", "score": None, "mask": Image.fromarray(where)}]
    found = draw_answer(image, "image-segmentation", answer)
    assert found.getpixel((150, 70)) == GREY
    assert found.getpixel((150, 80)) != GREY


@pytest.mark.parametrize("task", ["object-detection", "image-segmentation"])
def test_nothing_found_is_the_picture_itself(task: str) -> None:
    """A copy without anything on it."""
    image = Image.new("RGB", (20, 20), GREY)
    assert draw_answer(image, task, []).getcolors() == [(400, GREY)]


def test_other_tasks_are_refused() -> None:
    """A class has no place in a picture."""
    with pytest.raises(ConfigError, match="no place in a picture"):
        draw_answer(Image.new("RGB", (9, 9)), "image-classification", [])
