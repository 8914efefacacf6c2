"""A picture to measure with where nobody gives one: that of a small camera, as its file."""

from __future__ import annotations

import io
from functools import cache

import numpy as np

from edgekit.core.lazy import require

#: (width, height).
SIZE = (640, 480)
# How much longer than wide a picture of a camera is at most.
_LONGEST = 4.0


def camera_size(height: int, width: int) -> tuple[int, int]:
    """The (width, height) of a camera's picture in the proportions of a tensor."""
    shape = min(max(width / height, 1 / _LONGEST), _LONGEST)
    area = SIZE[0] * SIZE[1]
    return round((area * shape) ** 0.5), round((area / shape) ** 0.5)


@cache
def drawn_picture(size: tuple[int, int] = SIZE) -> bytes:
    """A JPEG of smooth colours, edges and noise, (width, height). Raises MissingDependency."""
    require("PIL", "vision")
    from PIL import Image

    width, height = size
    random = np.random.default_rng(0)
    down, right = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.stack([down / 31 + right / 53, down / 67 - right / 23, (down + right) / 11], axis=-1)
    values = 127 + 80 * np.sin(waves)
    values[height // 3 : height // 2, width // 4 : width // 2] += 90
    values += random.normal(0, 8, values.shape)
    stream = io.BytesIO()
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()
