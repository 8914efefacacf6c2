"""Any file that is a picture arrives upright in RGB; anything else is one clear error."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgekit.core.errors import InputMismatch
from edgekit.runtime import opened
from edgekit.runtime.pictures import decoding
from edgekit.runtime.pictures.decoding import looks_like_picture, open_picture, own_size
from tests.runtime.pictures.conftest import draw, stored


def same(first: Image.Image, second: Image.Image) -> bool:
    """Whether two pictures have the same mode and pixels."""
    return first.mode == second.mode and np.array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("RGB", "PNG"), ("RGB", "JPEG"), ("RGB", "WEBP"), ("RGB", "BMP"), ("RGB", "TIFF"),
        ("RGB", "PPM"), ("RGB", "GIF"), ("L", "PNG"), ("L", "JPEG"), ("1", "PNG"), ("LA", "PNG"),
        ("P", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("CMYK", "JPEG"), ("CMYK", "TIFF"),
        ("YCbCr", "JPEG"),
    ],
)  # fmt: skip
def test_every_mode_becomes_what_pillow_makes_of_it(mode: str, format: str) -> None:
    """As transformers' load_image does: converted to RGB."""
    data = stored(draw(19, 12).convert(mode), format)
    assert same(open_picture(data), Image.open(io.BytesIO(data)).convert("RGB"))


def test_palette_with_transparency_does_not_warn() -> None:
    """What is dropped is dropped on purpose."""
    image = draw(9, 9).convert("P", palette=Image.Palette.ADAPTIVE)
    data = stored(image, transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_picture(data)
    assert same(found, image.convert("RGB"))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_their_upper_eight(format: str) -> None:
    """Pillow's own conversion clips at 255 and answers a white picture."""
    values = (np.arange(7 * 5).reshape(5, 7) * 1800).astype(np.uint16)
    found = np.asarray(open_picture(stored(Image.fromarray(values), format)))
    assert np.array_equal(found[..., 0], values >> 8)
    assert np.array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_without_a_white_are_refused(kind: type) -> None:
    """Nothing says how bright 70,000 is."""
    data = stored(Image.fromarray(np.full((3, 3), 70_000, kind)), "TIFF")
    with pytest.raises(InputMismatch, match="32 bits"):
        open_picture(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    """A phone stores how it was held; a model wants to see it upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(draw(24, 16), "JPEG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert same(open_picture(data), expected.convert("RGB"))


def test_broken_metadata_do_not_matter() -> None:
    """An EXIF block of nonsense is no reason to refuse a picture."""
    assert open_picture(stored(draw(8, 8), "JPEG", exif=b"Exif\x00\x00nonsense")).size == (8, 8)


def test_grey_is_pillows_grey() -> None:
    """For models of one channel."""
    image = draw(10, 6)
    assert same(open_picture(stored(image), grey=True), image.convert("L"))


def test_every_way_of_giving_a_picture(tmp_path: Path) -> None:
    """Path, text, bytes, Pillow image and array are the same picture."""
    image = draw(10, 6)
    path = tmp_path / "a.png"
    path.write_bytes(stored(image))
    array = np.asarray(image)
    given = (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), image, array)
    assert all(same(open_picture(item), image) for item in given)


@pytest.mark.parametrize("shape", [(6, 10), (6, 10, 1), (6, 10, 4)])
def test_arrays_of_other_channels(shape: tuple[int, ...]) -> None:
    """Grey and transparent arrays are pictures, too."""
    assert open_picture(np.zeros(shape, np.uint8)).size == (10, 6)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((6, 10, 3), np.float32), np.zeros((3, 6, 10), np.uint8),
        np.zeros((1, 6, 10, 3), np.uint8), np.zeros((0, 10, 3), np.uint8),
    ],
)  # fmt: skip
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    """A tensor that is prepared already belongs into run()."""
    with pytest.raises(InputMismatch, match=r"uint8\[height, width, 3\]") as caught:
        open_picture(array)
    assert "model.run(" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "it is empty"),
        (b"Dear all, the picture is attached.", "begins with 'Dear all"),
        (b"%PDF-1.7", "a PDF file"),
        (b"\x00\x00\x00\x18ftypheic", "a HEIC file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "a PostScript file"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, told: str, tmp_path: Path) -> None:
    """A text file that is called .jpg, and what people take for pictures."""
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    with pytest.raises(InputMismatch, match="is not a picture") as caught:
        open_picture(path)
    assert "holiday.jpg" in caught.value.message
    assert told in caught.value.message
    assert not looks_like_picture(path)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(format: str, share: float) -> None:
    """A download that broke off does not become a half-grey picture."""
    data = stored(draw(64, 48), format)
    with pytest.raises(InputMismatch, match="cannot be decoded") as caught:
        open_picture(data[: max(20, int(len(data) * share))])
    assert "cut off" in str(caught.value.hint)


def test_animation_is_refused() -> None:
    """A model reads one picture; which one is not for us to say."""
    frames = [draw(8, 8, seed) for seed in range(3)]
    data = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputMismatch, match="animated, with 3 frames"):
        open_picture(data)


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        checked = kind + body
        chunks += struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(20_000, 20_000), (1 << 30, 1 << 30)])
def test_bombs_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    """Some bytes that would become gigabytes; told by the limit, and not in Pillow's words."""
    with pytest.raises(InputMismatch, match="too large to be decoded: it has more than") as caught:
        open_picture(_png_header(*size))
    assert "178,956,970 pixels" in caught.value.message
    assert "bomb" not in caught.value.message


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_limit_of_the_app_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it refuses, and where it only warns and warnings are errors."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for size, limit in (((50, 50), "the 2,000 pixels"), ((30, 50), "the 1,000 pixels")):
        with pytest.raises(InputMismatch, match=limit) as caught:
            open_picture(_png_header(*size))
        assert "MAX_IMAGE_PIXELS" in caught.value.message


def test_large_jpeg_is_decoded_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its format allows it without ever holding the whole picture."""
    data = stored(draw(160, 120), "JPEG")
    monkeypatch.setattr(decoding, "MOST_PIXELS", 5_000)
    assert open_picture(data).size == (80, 60)
    monkeypatch.setattr(decoding, "_MOST_JPEG_PIXELS", 10_000)
    with pytest.raises(InputMismatch, match="160×120 pixels"):
        open_picture(data)


def _several_scans() -> bytes:
    """A baseline JPEG of which the first scan says that it holds one channel of three."""
    data = bytearray(stored(draw(160, 120), "JPEG"))
    place = data.index(b"\xff\xda\x00\x0c\x03")
    first = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return bytes(data[:place]) + first + bytes(data[place:])


@pytest.mark.parametrize("kind", ["progressive", "several scans"])
def test_large_jpeg_of_several_scans_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decoder keeps all of it, at whatever size it is asked for."""
    data = (
        stored(draw(160, 120), "JPEG", progressive=True)
        if kind == "progressive"
        else _several_scans()
    )
    if kind == "progressive":
        assert open_picture(data).size == (160, 120)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 5_000)
    with pytest.raises(InputMismatch, match="160×120 pixels in several scans"):
        open_picture(data)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_channels_of_one_scan(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, three or four of them are interleaved."""
    monkeypatch.setattr(decoding, "MOST_PIXELS", 5_000)
    data = stored(draw(160, 120).convert(mode), "JPEG", optimize=True)
    made = open_picture(data)
    assert (made.size, own_size(made)) == ((80, 60), (120, 160))
    # What is made of it is a picture of its own.
    assert own_size(made.crop((0, 0, 7, 5))) == (5, 7)


def _piped(data: bytes, path: Path) -> str:
    """The path of a FIFO into which somebody writes."""
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    return str(path)


def test_pipes_are_read_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell puts in the place of a command's output cannot be wound back."""
    image = draw(20, 10)
    data = stored(image)
    assert same(open_picture(_piped(data, tmp_path / "a")), image)
    with pytest.raises(InputMismatch, match="not a picture"):
        open_picture(_piped(b"words", tmp_path / "b"))
    monkeypatch.setattr(opened, "_MOST_PIPED", 1 << 7)
    with pytest.raises(InputMismatch, match="not a plain file"):
        open_picture(_piped(data, tmp_path / "c"))


def test_file_that_cannot_be_read() -> None:
    """Opened, but refused by the system at the first byte."""
    with pytest.raises(InputMismatch, match="cannot be read"):
        open_picture("/proc/self/mem")


@pytest.mark.parametrize("item", [None, 3, {"image": "a.jpg"}, ("a.jpg", "b.jpg")])
def test_other_things_are_refused(item: object) -> None:
    """What a picture can be given as is told."""
    with pytest.raises(InputMismatch, match="a path, bytes, a Pillow image or a uint8 array"):
        open_picture(item)


def test_missing_files_and_addresses(tmp_path: Path) -> None:
    """Nothing is ever downloaded."""
    with pytest.raises(InputMismatch, match="No such file"):
        open_picture(tmp_path / "none.jpg")
    with pytest.raises(InputMismatch, match="network"):
        open_picture("https://example.org/cat.jpg")
    with pytest.raises(InputMismatch, match="cannot be opened"):
        open_picture(tmp_path)
