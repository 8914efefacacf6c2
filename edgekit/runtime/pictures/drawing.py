"""Detections and masks drawn on a copy of their picture, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import ConfigError
from edgekit.runtime.pictures.decoding import own_size

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

#: The tasks whose answers have a place in the picture.
DRAWN = ("object-detection", "image-segmentation")
# Okabe and Ito's colours, which most people can tell apart, and some more of like distance.
_COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (160, 90, 240), (120, 200, 60), (200, 60, 60),
)  # fmt: skip
_MASK_STRENGTH = 0.55


def draw_answer(image: Image, task: str, answer: object) -> Image:
    """A copy of a picture with the boxes or masks that a model found in it.

    A colour stands for a label within one picture. Raises ConfigError for a task without either.
    """
    if task not in DRAWN:
        raise ConfigError(
            f"The answers of {task} have no place in a picture to be drawn at.",
            hint=f"Pictures are drawn for {' and '.join(DRAWN)}.",
        )
    rows: Sequence[Mapping[str, Any]] = answer if isinstance(answer, list) else []
    names = list(dict.fromkeys(str(row["label"]) for row in rows))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    if task == "object-detection":
        return _boxes(image.copy(), rows, colours)
    return _masks(image.copy(), rows, colours)


_Colours = Mapping[str, tuple[int, int, int]]


def _boxes(image: Image, rows: Sequence[Mapping[str, Any]], colours: _Colours) -> Image:
    from PIL import ImageDraw

    canvas = ImageDraw.Draw(image)
    size = _letters(image)
    # Boxes are in the pixels of the file, which may have been decoded smaller.
    tall, wide = own_size(image)
    across, down = image.width / wide, image.height / tall
    # The surest on top.
    for row in sorted(rows, key=lambda one: float(one["score"])):
        box, colour = row["box"], colours[str(row["label"])]
        left, right = sorted((box["xmin"] * across, box["xmax"] * across))
        top, bottom = sorted((box["ymin"] * down, box["ymax"] * down))
        canvas.rectangle((left, top, right, bottom), outline=colour, width=max(2, size // 6))
        told = f"{row['label']} {row['score']:.2f}"
        _label(canvas, told, (left, top - size - 4 if top > size + 4 else top), colour, size)
    return image


def _masks(image: Image, rows: Sequence[Mapping[str, Any]], colours: _Colours) -> Image:
    from PIL import Image as pillow
    from PIL import ImageDraw

    for row in rows:
        flat = pillow.new("RGB", image.size, colours[str(row["label"])])
        image.paste(pillow.blend(image, flat, _MASK_STRENGTH), mask=row["mask"])
    canvas = ImageDraw.Draw(image)
    size = _letters(image)
    for line, (name, colour) in enumerate(colours.items()):
        _label(canvas, name, (4, 4 + line * (size + 8)), colour, size)
    return image


def _letters(image: Image) -> int:
    """The height of letters that can be read in a picture, in pixels."""
    return max(10, min(image.size) // 32)


def _label(
    canvas: ImageDraw, text: str, place: tuple[float, float], colour: tuple[int, ...], size: int
) -> None:
    """A word on a ground of a colour, black or white by its brightness."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    left, top = max(0.0, place[0]), max(0.0, place[1])
    box = canvas.textbbox((left + 2, top), text, font=font)
    canvas.rectangle((left, top, box[2] + 2, max(box[3], top + size) + 2), fill=colour)
    red, green, blue = colour
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    canvas.text((left + 2, top), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)
