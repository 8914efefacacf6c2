"""`PictureProcessor`: pictures as the feeds of a graph, equal to transformers' Pillow backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt, InputMismatch
from edgekit.core.lazy import require
from edgekit.runtime.pictures.decoding import open_picture, own_size, pillow_limit
from edgekit.runtime.pictures.interpolation import resized
from edgekit.runtime.pictures.rules import (
    CHANNELS,
    MOST_TENSOR_PIXELS,
    CenterCrop,
    Normalize,
    Pad,
    PictureRules,
    Rescale,
    Resize,
    read_picture_rules,
)
from edgekit.runtime.session import Array

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Encoded:
    """One prepared picture.

    ``pixels`` are float32 in the layout of the rules, without the batch axis; ``used`` is the
    (height, width) of them that is no padding; ``size`` the (height, width) of the upright
    picture, which boxes are given in; ``decoded`` what was decoded of it, which masks are given
    in: less where a JPEG of hundreds of millions of pixels was decoded smaller.
    """

    pixels: Pixels
    used: tuple[int, int]
    size: tuple[int, int]
    decoded: tuple[int, int]


class PictureProcessor:
    """Turns pictures into the feeds of a graph. Safe to use from many threads at once.

    Args:
        processor: the manifest's processor, of kind ``image``.
        size: the graph's (height, width) where they are fixed: pictures are filled up to it.

    Raises:
        MissingDependency: Pillow is not installed.
        BundleCorrupt: a value is not what it should be.
        BundleVersion: the processor asks for something that this edgekit does not know.
    """

    def __init__(
        self, processor: Mapping[str, object], *, size: tuple[int, int] | None = None
    ) -> None:
        require("PIL", "vision")
        self.rules = read_picture_rules(processor)
        made = self.rules.size
        if size is not None and made is not None and made != size:
            raise BundleCorrupt(
                f"The processor makes pictures of {made[1]}×{made[0]}, the graph takes"
                f" {size[1]}×{size[0]}.",
                hint="Export the bundle again.",
            )
        if size is not None and size[0] * size[1] > MOST_TENSOR_PIXELS:
            raise BundleCorrupt(
                f"The graph takes pictures of {size[1]}×{size[0]}; the limit is"
                f" {MOST_TENSOR_PIXELS // 10**6} million pixels.",
                hint="Export with a smaller --static height and width.",
            )
        self.size = size
        self._table = _table(self.rules)

    def open(self, item: object) -> Image:
        """The upright picture in the channels that the rules ask for. Raises InputMismatch."""
        return open_picture(item, grey=self.rules.channels == "grey")

    def encode(self, item: object) -> Encoded:
        """One picture prepared. Raises InputMismatch for what is no picture that fits."""
        image = self.open(item)
        decoded, size = (image.height, image.width), own_size(image)
        for op in self.rules.ops:
            if isinstance(op, Resize):
                image = _resize(image, op)
            elif isinstance(op, CenterCrop):
                image = _crop(image, op)
        plain = np.asarray(image)
        if plain.ndim == 2:
            plain = plain[:, :, None]
        if self.rules.channels == "bgr":
            plain = plain[:, :, ::-1]
        return self._finish(plain, size, decoded)

    def area(self, encoded: Encoded) -> tuple[int, int]:
        """The (height, width) of a picture's tensor."""
        shape = encoded.pixels.shape
        return (shape[1], shape[2]) if self.rules.layout == "chw" else (shape[0], shape[1])

    def _finish(self, plain: Bytes, size: tuple[int, int], decoded: tuple[int, int]) -> Encoded:
        """Bytes ``[height, width, channels]`` as numbers, filled up where the rules say so."""
        used = plain.shape[0], plain.shape[1]
        height, width, value = self._filled(used)
        channels = plain.shape[2]
        first = self.rules.layout == "chw"
        shape = (channels, height, width) if first else (height, width, channels)
        padded = (height, width) != used
        pixels = np.full(shape, value, np.float32) if padded else np.empty(shape, np.float32)
        for channel in range(channels):
            plane = pixels[channel] if first else pixels[:, :, channel]
            # Every arithmetic is done on the 256 values that a byte can have.
            plane[: used[0], : used[1]] = self._table[channel][plain[:, :, channel]]
        return Encoded(pixels, used, size, decoded)

    def _filled(self, used: tuple[int, int]) -> tuple[int, int, float]:
        """The size that a picture is filled up to, and with what. Raises InputMismatch."""
        height, width, value = *used, 0.0
        for op in self.rules.ops:
            if isinstance(op, Pad):
                height, width, value = op.height, op.width, op.value
        if self.size is not None:
            height, width = self.size
        if used[0] > height or used[1] > width:
            raise InputMismatch(
                f"A picture of {used[1]}×{used[0]} pixels, resized, does not fit into the"
                f" {width}×{height} of the graph.",
                hint="Crop it first, or export with a larger --static size.",
            )
        return height, width, value

    def collate(self, encodings: Sequence[Encoded]) -> dict[str, Array]:
        """The feeds of prepared pictures, by input name.

        The pixels are float32 ``[batch, …]``; where the graph takes a mask it is int64 ``[batch,
        height, width]``, 1 where there is picture. Pictures of different sizes are filled up with
        zeros at the bottom and the right.
        """
        shapes = {encoded.pixels.shape for encoded in encodings}
        shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        if len(encodings) == 1:
            pixels = encodings[0].pixels[None]
        elif len(shapes) == 1:
            pixels = np.stack([encoded.pixels for encoded in encodings])
        else:
            pixels = np.zeros((len(encodings), *shape), np.float32)
            for row, encoded in zip(pixels, encodings, strict=True):
                row[tuple(map(slice, encoded.pixels.shape))] = encoded.pixels
        feeds: dict[str, Array] = {self.rules.inputs[0]: pixels}
        if len(self.rules.inputs) == 2:
            height, width = shape[1:] if self.rules.layout == "chw" else shape[:2]
            mask = np.zeros((len(encodings), height, width), np.int64)
            for row, encoded in zip(mask, encodings, strict=True):
                row[: encoded.used[0], : encoded.used[1]] = 1
            feeds[self.rules.inputs[1]] = mask
        return feeds


def _table(rules: PictureRules) -> Pixels:
    """What becomes of each byte in each channel, ``[channels, 256]``.

    In the steps and the types of transformers, so that the results are the same to the last bit:
    rescaling in float64, cut to float32; everything else in float32.
    """
    count = CHANNELS[rules.channels]
    values: NDArray[np.float32] | Bytes = np.tile(np.arange(256, dtype=np.uint8), (count, 1))
    for op in rules.ops:
        if isinstance(op, Rescale):
            values = (values.astype(np.float64) * op.factor).astype(np.float32)
            if op.offset:
                values += np.float32(op.offset)
        elif isinstance(op, Normalize):
            mean, std = (np.array(part, np.float32)[:, None] for part in (op.mean, op.std))
            values = (values.astype(np.float32) - mean) / std
    return values.astype(np.float32)


def _resize(image: Image, op: Resize) -> Image:
    from PIL import Image as pillow

    height, width = op.size.target(image.height, image.width)
    if op.antialias:
        return image.resize((width, height), pillow.Resampling[op.filter.upper()])
    plain = np.asarray(image, dtype=np.float32)
    planes = plain[None] if plain.ndim == 2 else np.moveaxis(plain, -1, 0)
    made = np.rint(resized(planes, height, width)).clip(0, 255).astype(np.uint8)
    flat = made[0] if plain.ndim == 2 else np.moveaxis(made, 0, -1)
    return pillow.fromarray(np.ascontiguousarray(flat))


def _crop(image: Image, op: CenterCrop) -> Image:
    """The middle; `Image.crop` fills with black what lies outside."""
    # Floor division of what lacks, too: transformers puts the odd pixel there.
    top = (image.height - op.height) // 2
    left = (image.width - op.width) // 2
    from PIL import Image as pillow

    try:
        return image.crop((left, top, left + op.width, top + op.height))
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        # An app may have set Pillow's limit below ours.
        raise InputMismatch(
            f"A picture cannot be cropped to {op.width}×{op.height}: it would have"
            f" {pillow_limit(error)}.",
            hint="Raise PIL.Image.MAX_IMAGE_PIXELS again.",
        ) from error
