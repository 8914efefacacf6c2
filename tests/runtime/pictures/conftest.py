"""Pictures of every kind, drawn here."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def draw(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of smooth colours with noise in it."""
    random = np.random.default_rng(seed)
    down, right = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.stack([down / 7 + right / 5, down / 11 - right / 3, right / 9], axis=-1)
    values = 127 + 90 * np.sin(waves) + random.normal(0, 20, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def stored(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file of a picture."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
