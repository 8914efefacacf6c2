"""Files, bytes, Pillow images and arrays as upright pictures of a known kind, or one clear error.

What a file is follows from its first bytes, and only formats that run no other program are opened:
Pillow would hand PostScript to Ghostscript.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputMismatch
from edgekit.core.lazy import require
from edgekit.runtime.opened import Beginnings, first_bytes, kind_of, opened_file, shown, told

if TYPE_CHECKING:
    from PIL.Image import Image

_LOGGER = logging.getLogger("edgekit")

# Twice what Pillow warns at: half a gigabyte as bytes of red, green and blue.
MOST_PIXELS = 178_956_970
# A JPEG of one scan decodes to a half, a quarter or an eighth of its size without ever being whole
# in memory. One of several scans, as every progressive one is, does not: libjpeg keeps the
# coefficients of the whole picture, two bytes each, at whatever size it gives in the end.
_MOST_JPEG_PIXELS = 1 << 30
# In the `info` of a picture that was decoded smaller: (own, decoded) sizes, each (height, width).
_OWN_SIZE = "edgekit: size of the file"
# What a file begins with; dots stand for any byte.
_BEGINNINGS: Beginnings = (
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"GIF87a", 0, "GIF"),
    (b"GIF89a", 0, "GIF"),
    (b"WEBP", 8, "WEBP"),
    (b"ftypavif", 4, "AVIF"),
    (b"ftypavis", 4, "AVIF"),
    (b"BM", 0, "BMP"),
    (b"II*\x00", 0, "TIFF"),
    (b"MM\x00*", 0, "TIFF"),
    (b"II+\x00", 0, "TIFF"),
    (b"MM\x00+", 0, "TIFF"),
    (b"\x00\x00\x00\x0cjP  ", 0, "JPEG2000"),
    (b"\xff\x4f\xff\x51", 0, "JPEG2000"),
    *((b"P%d" % number, 0, "PPM") for number in range(1, 8)),
)
# Files that people give for pictures and that are none of the above.
_OTHERS: Beginnings = (
    (b"ftyphei", 4, "a HEIC file"),
    (b"ftypmif1", 4, "a HEIF file"),
    (b"%PDF", 0, "a PDF file"),
    (b"%!PS", 0, "a PostScript file"),
    (b"<svg", 0, "an SVG drawing"),
    (b"PK\x03\x04", 0, "a zip archive"),
    (b"\x93NUMPY", 0, "a numpy array"),
)
#: The formats that are opened, by Pillow's names.
FORMATS = tuple(dict.fromkeys(kind for _, _, kind in _BEGINNINGS))
_READABLE = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, JPEG 2000 or PNM"
_SMALLER = "Make it smaller first; models read a few hundred pixels a side."
# The tag of EXIF that says how a camera was held.
_ORIENTATION = 0x0112
_UPRIGHT: Mapping[int, str] = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# Those that make height of width.
_SIDEWAYS = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
#: What Pillow's decoders raise for files that are broken or cut off.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip


def open_picture(item: object, *, grey: bool = False) -> Image:
    """A picture upright and in RGB, or in 8-bit grey.

    `item` is a path, the bytes of a file, a Pillow image or a uint8 array ``[height, width]``,
    ``[height, width, 1 | 3 | 4]``. Transparency is dropped, 16 bits are cut to their upper 8, the
    orientation in EXIF is applied. A JPEG beyond the limit of pixels is decoded smaller where its
    kind allows it; `own_size` tells what it had.

    Raises:
        InputMismatch: there is no such file, it is no picture, cut off, animated, too large, or
            holds numbers that are no brightness.
        MissingDependency: Pillow is not installed.
    """
    require("PIL", "vision")
    if isinstance(item, np.ndarray):
        return _in_channels(_of_array(item), "The array", grey)
    if isinstance(item, str | os.PathLike):
        path = Path(item)
        name = shown(str(path))
        with opened_file(path, "picture") as stream:
            return _in_channels(_of_stream(stream, name), name, grey)
    if isinstance(item, bytes | bytearray | memoryview):
        name = "The picture"
        return _in_channels(_of_stream(io.BytesIO(item), name), name, grey)
    from PIL import Image

    if isinstance(item, Image.Image):
        name = "The picture"
        with _decoding(name):
            item.load()
        return _in_channels(_upright(item), name, grey)
    raise InputMismatch(
        f"A picture is a path, bytes, a Pillow image or a uint8 array, got {type(item).__name__}.",
        hint="Give the path of a picture file; raw tensors go through model.run({name: array, …}).",
    )


def own_size(image: Image) -> tuple[int, int]:
    """(height, width) of the upright picture of `open_picture`, before it was decoded smaller."""
    size = image.height, image.width
    own, decoded = image.info.get(_OWN_SIZE, (size, size))
    # Pillow hands `info` on to what is cropped or resized of a picture, which is its own then.
    return own if decoded == size else size


def told_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of the upright picture in a file, as far as its head tells; else None."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            size = image.height, image.width
            # A PNG may say how it was held behind its pixels, which would have to be decoded.
            known = image.format != "PNG" or "exif" in image.info
            return size[::-1] if known and _turn(image) in _SIDEWAYS else size
    except (*BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def looks_like_picture(path: Path) -> bool:
    """Whether a file begins as a picture does. Raises OSError."""
    with path.open("rb") as stream:
        return kind_of(stream.read(16), _BEGINNINGS) is not None


def _of_stream(stream: BinaryIO, name: str) -> Image:
    from PIL import Image, JpegImagePlugin

    stream, head = first_bytes(stream, name, "picture")
    kind = kind_of(head, _BEGINNINGS)
    if kind is None:
        raise InputMismatch(
            f"{name} is not a picture: {told(head, _OTHERS)}.", hint=f"Give a {_READABLE} file."
        )
    with _decoding(name):
        # Image.open() refuses a large JPEG before it could be told to decode less of it.
        image = (
            JpegImagePlugin.JpegImageFile(stream)
            if kind == "JPEG"
            else Image.open(stream, formats=[kind])
        )
        if getattr(image, "is_animated", False):
            frames = getattr(image, "n_frames", 2)
            raise InputMismatch(
                f"{name} is animated, with {frames} frames; a model reads one picture.",
                hint="Save the frame that you mean as a picture of its own.",
            )
        own = image.height, image.width
        large = own[0] * own[1] > MOST_PIXELS
        if large:
            what = f"{image.width}×{image.height} pixels"
            if kind != "JPEG" or own[0] * own[1] > _MOST_JPEG_PIXELS:
                raise _too_large(name, what)
            if not _one_scan(image, stream):
                raise _too_large(name, f"{what} in several scans, as progressive JPEGs have them")
            _reduce(image, name)
        image.load()
    upright = _upright(image)
    if large:
        lying = _turn(image) in _SIDEWAYS
        upright.info[_OWN_SIZE] = own[::-1] if lying else own, (upright.height, upright.width)
    return upright


def _one_scan(image: Image, stream: BinaryIO) -> bool:
    """Whether a JPEG that was just opened holds all of its channels in its first scan.

    Pillow stops reading behind the header of the scan: FF DA, its length, the number of channels,
    two bytes for each, three bytes more. Baseline files may have several scans, too.
    """
    if image.info.get("progressive"):
        return False
    channels = len(image.getbands())
    place = stream.tell()
    length = 6 + 2 * channels
    stream.seek(max(0, place - length - 2))
    head = stream.read(5)
    stream.seek(place)
    return head == b"\xff\xda" + length.to_bytes(2, "big") + bytes([channels])


def _reduce(image: Image, name: str) -> None:
    """Tell a JPEG's decoder to give a half, a quarter or an eighth of the picture's size."""
    width, height = image.size
    for part in (2, 4, 8):
        if width * height <= MOST_PIXELS * part * part:
            image.draft(None, (width // part, height // part))
            break
    _LOGGER.warning(
        "%s has %d×%d pixels and was decoded at %d×%d, within the limit of %d million pixels.",
        name, width, height, image.width, image.height, MOST_PIXELS // 10**6,
    )  # fmt: skip


def pillow_limit(error: Exception) -> str:
    """How many pixels a picture has that Pillow just refused: an app may have set its limit."""
    from PIL import Image

    # Beyond its limit it warns, which a filter may make an error; it refuses what is twice that.
    warned = isinstance(error, Image.DecompressionBombWarning)
    times, told = (1, "") if warned else (2, "twice ")
    most = times * (Image.MAX_IMAGE_PIXELS or MOST_PIXELS)
    return f"more than the {most:,} pixels that Pillow allows, {told}PIL.Image.MAX_IMAGE_PIXELS"


def _too_large(name: str, what: str) -> InputMismatch:
    return InputMismatch(
        f"{name} is too large to be decoded: {what}; the limit is {MOST_PIXELS // 10**6} million"
        " pixels.",
        hint=_SMALLER,
    )


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever a decoder raises as one InputMismatch."""
    from PIL import Image

    try:
        yield
    except InputMismatch:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputMismatch(
            f"{name} is too large to be decoded: it has {pillow_limit(error)}.", hint=_SMALLER
        ) from error
    except BROKEN as error:
        said = str(error).strip() or type(error).__name__
        raise InputMismatch(
            f"{name} is a picture that cannot be decoded: {said.splitlines()[0][:200]}.",
            hint="Get the file again: it is cut off, broken, or of a kind that this Pillow lacks.",
        ) from error


def _upright(image: Image) -> Image:
    from PIL import Image as pillow

    turn = _turn(image)
    return image if turn is None else image.transpose(getattr(pillow.Transpose, turn))


def _turn(image: Image) -> str | None:
    """What makes a picture upright, by Pillow's name for it."""
    try:
        held = image.getexif().get(_ORIENTATION)
    except BROKEN:
        # Broken metadata are no reason to refuse a picture that decodes.
        return None
    return _UPRIGHT.get(held) if isinstance(held, int) else None


def _of_array(array: NDArray[np.generic]) -> Image:
    from PIL import Image

    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    fits = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits or not array.size:
        raise InputMismatch(
            f"A picture as an array is uint8[height, width, 3], got"
            f" {array.dtype}{list(array.shape)}.",
            hint="Values are 0…255 and channels stand last; a tensor that is prepared already goes"
            " through model.run({name: array, …}).",
        )
    return Image.fromarray(np.ascontiguousarray(flat))


def _in_channels(image: Image, name: str, grey: bool) -> Image:
    """Any mode of Pillow as RGB, or as 8-bit grey."""
    from PIL import Image as pillow

    wanted = "L" if grey else "RGB"
    mode = image.mode
    if mode == wanted:
        return image
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        # Pillow would clip at 255, and nearly every 16-bit picture would be white.
        upper = (np.asarray(image) >> 8).astype(np.uint8)
        image = pillow.fromarray(upper)
    elif mode in ("I", "F"):
        raise InputMismatch(
            f"{name} holds numbers of 32 bits, and nothing says which of them is white.",
            hint="Save it with 8 or 16 bits a channel.",
        )
    elif mode == "P" and isinstance(image.info.get("transparency"), bytes):
        # Straight to RGB Pillow would warn of what is dropped on purpose.
        image = image.convert("RGBA")
    if image.mode == wanted:
        return image
    with _decoding(name):
        return image.convert(wanted)
