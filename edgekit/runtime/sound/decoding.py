"""Files, bytes and arrays as blocks of mono samples at a model's rate, or one clear error.

What a file is follows from its first bytes. Files are decoded and resampled block by block, so an
hour of sound takes no more memory than a second of it.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputMismatch
from edgekit.core.lazy import require
from edgekit.runtime.opened import Beginnings, first_bytes, kind_of, opened_file, shown, told

if TYPE_CHECKING:
    from soundfile import SoundFile

Samples: TypeAlias = NDArray[np.float32]

#: The sampling rates that are read: below are no sounds, and the highest studios use is 768 kHz.
RATES = range(1_000, 1_000_001)

_BEGINNINGS: Beginnings = (
    (b"WAVE", 8, "WAV"),
    (b"fLaC", 0, "FLAC"),
    (b"OggS", 0, "OGG"),
    (b"AIFF", 8, "AIFF"),
    (b"AIFC", 8, "AIFF"),
    (b"ID3", 0, "MP3"),
    (b"\xff\xfb", 0, "MP3"),
    (b"\xff\xfa", 0, "MP3"),
    (b"\xff\xf3", 0, "MP3"),
    (b"\xff\xf2", 0, "MP3"),
)
# Files that people give for sounds and that libsndfile does not decode.
_OTHERS: Beginnings = (
    (b"ftyp", 4, "an MP4 file"),
    (b"\x1a\x45\xdf\xa3", 0, "a WebM or Matroska file"),
    (b"\xff\xf1", 0, "an AAC file"),
    (b"\xff\xf9", 0, "an AAC file"),
    (b"#!AMR", 0, "an AMR file"),
    (b"AVI ", 8, "an AVI file"),
    (b"MThd", 0, "a MIDI file, which holds notes and no sound"),
    (b"PK\x03\x04", 0, "a zip archive"),
    (b"\x93NUMPY", 0, "a numpy array"),
)
_READABLE = "WAV, FLAC, OGG, MP3 or AIFF"
_REMEDY = f"Give a {_READABLE} file; ffmpeg -i FILE sound.wav makes one of nearly any other."
# Numbers that are decoded at a time, all channels together, or resampled: 4 MB.
_BLOCK = 1 << 20
# The heads of chunks, and the one that holds the samples.
_CHUNKS: Mapping[str, tuple[str, bytes]] = {"WAV": ("<4sI", b"data"), "AIFF": (">4sI", b"SSND")}
# libsndfile's word for a length that the file does not tell.
_UNKNOWN = 1 << 62
# A WAV that was written to a pipe holds such a length of its data or a larger one, or none: what
# its writer could not go back to correct.
_OPEN_ENDED = 0x7FFF_0000
# What soundfile raises for files that are broken: its own errors are RuntimeErrors.
_BROKEN = (RuntimeError, OSError, ValueError, TypeError, MemoryError, EOFError)


@dataclass(frozen=True, eq=False)
class Recording:
    """An opened sound: ``blocks`` are read once, ``samples`` how many there will be, if known.

    Both are at the rate that was asked for. ``name`` is for messages.
    """

    name: str
    samples: int | None
    blocks: Iterator[Samples]


@contextmanager
def opened_sound(item: object, rate: int) -> Iterator[Recording]:
    """A sound whose blocks are float32, mono and at a rate.

    `item` is a path, the bytes of a file, ``(array, sampling_rate)`` or ``{"array": …,
    "sampling_rate": …}`` with a float array ``[samples]`` from −1 to 1. Channels are averaged,
    other rates brought to the wanted one by soxr. Blocks raise InputMismatch, too.

    Raises:
        InputMismatch: there is no such file, it is no sound, cut off, empty, or holds NaN.
        MissingDependency: soundfile or soxr is not installed.
    """
    if isinstance(item, str | os.PathLike):
        path = Path(item)
        with opened_file(path, "sound") as stream:
            yield from _of_stream(stream, shown(str(path)), rate)
        return
    if isinstance(item, bytes | bytearray | memoryview):
        yield from _of_stream(io.BytesIO(item), "The sound", rate)
        return
    array, source = _of_array(item)
    step = _step(1, source, rate)
    blocks = (array[start : start + step] for start in range(0, len(array), step))
    yield _recording("The sound", len(array), blocks, source, rate)


def read_sound(item: object, rate: int, *, most: int) -> Samples:
    """The first samples of a sound, `most` of them, as one array (see `opened_sound`)."""
    with opened_sound(item, rate) as recording:
        return take(recording.blocks, most)


def take(blocks: Iterable[Samples], most: int) -> Samples:
    """The first `most` samples of some blocks."""
    kept: list[Samples] = []
    count = 0
    for block in blocks:
        kept.append(block[: most - count])
        count += len(kept[-1])
        if count >= most:
            break
    return np.concatenate(kept) if kept else np.zeros(0, np.float32)


def looks_like_sound(path: Path) -> bool:
    """Whether a file begins as a sound does. Raises OSError."""
    with path.open("rb") as stream:
        return kind_of(stream.read(16), _BEGINNINGS) is not None


def _recording(
    name: str, count: int | None, blocks: Iterable[Samples], source: int, rate: int
) -> Recording:
    if count == 0:
        raise _empty(name)
    total = None if count is None else math.ceil(count * rate / source)
    return Recording(name, total, _resampled(_finite(blocks, name), source, rate))


def _empty(name: str) -> InputMismatch:
    return InputMismatch(
        f"{name} holds no samples.", hint="Check how it was recorded; there is nothing to hear."
    )


def _of_array(item: object) -> tuple[Samples, int]:
    """The array and rate of an input that is no file. Raises InputMismatch."""
    if isinstance(item, Mapping) and "sampling_rate" in item and {"array", "raw"} & set(item):
        item = (item.get("array", item.get("raw")), item["sampling_rate"])
    if not isinstance(item, tuple) or len(item) != 2:
        wrong = f"{item.dtype}{list(item.shape)}" if isinstance(item, np.ndarray) else None
        raise InputMismatch(
            "A sound is a path, bytes or (array, sampling_rate), got"
            f" {wrong or type(item).__name__}.",
            hint="Write (array, 16000): nothing else tells at what rate an array was recorded."
            if wrong
            else "Give the path of a sound file; raw tensors go through"
            " model.run({name: array, …}).",
        )
    array, rate = item
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate not in RATES:
        raise InputMismatch(
            f"A sampling rate is a whole number from {RATES.start:,} to {RATES.stop - 1:,} Hz, got"
            f" {rate!r}.",
            hint="Write (array, sampling_rate), for example (array, 16000).",
        )
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind != "f":
        got = (
            f"{array.dtype}{list(array.shape)}"
            if isinstance(array, np.ndarray)
            else type(array).__name__
        )
        raise InputMismatch(
            f"A sound as an array is float32[samples], got {got}.",
            hint="Average its channels and bring whole numbers to −1…1: 16-bit ones with array /"
            " 32768.",
        )
    return array.astype(np.float32, copy=False), int(rate)


def _of_stream(stream: BinaryIO, name: str, rate: int) -> Iterator[Recording]:
    soundfile = require("soundfile", "audio")
    stream, head = first_bytes(stream, name, "sound")
    kind = kind_of(head, _BEGINNINGS)
    if kind is None:
        raise InputMismatch(f"{name} is not a sound: {told(head, _OTHERS)}.", hint=_REMEDY)
    held: BinaryIO | _Mended = stream
    if kind in _CHUNKS:
        held = _whole(stream, name, *_CHUNKS[kind])
    with _decoding(name):
        file = soundfile.SoundFile(held)
    # Otherwise every block is sought once more, which a FLAC of unknown length cannot bear.
    file.seekable = _never
    with file:
        source = int(file.samplerate)
        if source not in RATES:
            raise InputMismatch(
                f"{name} has a sampling rate of {source:,} Hz; {RATES.start:,} to"
                f" {RATES.stop - 1:,} are read.",
                hint="Record it anew, or correct the file's header.",
            )
        # An MP3's length is an estimate, as a stream's may be.
        known = kind != "MP3" and 0 < file.frames < _UNKNOWN
        count = int(file.frames) if known else None
        step = _step(file.channels, source, rate)
        yield _recording(name, count, _decoded(file, name, count, step), source, rate)


def _decoded(file: SoundFile, name: str, count: int | None, size: int) -> Iterator[Samples]:
    """The file's samples, so many at a time, its channels averaged. Raises InputMismatch."""
    read = 0
    while True:
        with _decoding(name):
            wanted = size if count is None else min(size, count - read)
            block = file.read(frames=wanted, dtype="float32", always_2d=True)
        if not len(block):
            break
        read += len(block)
        yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    if not read:
        raise _empty(name)
    if count is not None and read < count:
        raise InputMismatch(
            f"{name} is cut off: it holds {read / file.samplerate:.2f} of"
            f" {count / file.samplerate:.2f} seconds.",
            hint="Get the file again.",
        )


def _never() -> bool:
    return False


def _step(channels: int, source: int, rate: int) -> int:
    """Frames that are read at a time: neither their channels nor what is resampled are much."""
    return max(1, _BLOCK // max(channels, math.ceil(rate / source)))


class _Mended:
    """A file of which four bytes are others: libsndfile reads what its header says, no more."""

    def __init__(self, stream: BinaryIO, place: int, content: bytes) -> None:
        self._stream = stream
        self._place = place
        self._content = content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        start = self._stream.tell()
        data = self._stream.read(size)
        if start >= self._place + len(self._content) or start + len(data) <= self._place:
            return data
        held = bytearray(data)
        for at, byte in enumerate(self._content, self._place - start):
            if 0 <= at < len(held):
                held[at] = byte
        return bytes(held)


def _whole(stream: BinaryIO, name: str, form: str, data: bytes) -> BinaryIO | _Mended:
    """A file of chunks, wound back; of a streamed one with the length that it really has.

    libsndfile reads what is there and says nothing. Raises InputMismatch where the data end before
    the header says so.
    """
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    start = stream.read(12)
    while len(head := stream.read(8)) == 8:
        mark, size = struct.unpack(form, head)
        place = stream.tell()
        if mark == data:
            stream.seek(0)
            if size < _OPEN_ENDED and place + size > end:
                raise InputMismatch(
                    f"{name} is cut off: it holds {end - place:,} of {size:,} bytes of sound.",
                    hint="Get the file again.",
                )
            if start[:4] == b"RIFF" and (place + size > end or (not size and _open(start, end))):
                held = struct.pack("<I", min(end - place, 0xFFFF_FFFF))
                return _Mended(stream, place - len(held), held)
            return stream
        # Chunks begin at even places.
        stream.seek(place + size + size % 2)
    stream.seek(0)
    return stream


def _open(start: bytes, end: int) -> bool:
    """Whether a WAV's own length was never filled in: a closed one ends where the file ends."""
    told: int = struct.unpack("<I", start[4:8])[0]
    return told + 8 not in (end, end - 1)


def _finite(blocks: Iterable[Samples], name: str) -> Iterator[Samples]:
    for block in blocks:
        if not np.isfinite(block).all():
            raise InputMismatch(
                f"{name} holds {int((~np.isfinite(block)).sum())} samples that are NaN or"
                " infinite.",
                hint="Find where they come from; a model answers NaN to them.",
            )
        yield block


def _resampled(blocks: Iterable[Samples], source: int, rate: int) -> Iterator[Samples]:
    """The blocks at another rate: as many samples as librosa and transformers make of them."""
    if source == rate:
        yield from blocks
        return
    soxr = require("soxr", "audio")
    stream = soxr.ResampleStream(source, rate, 1, dtype="float32", quality="HQ")
    read = made = 0
    for block in blocks:
        read += len(block)
        part = stream.resample_chunk(np.ascontiguousarray(block))
        made += len(part)
        if len(part):
            yield part
    missing = math.ceil(read * rate / source) - made
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)[: max(0, missing)]
    yield np.pad(rest, (0, max(0, missing - len(rest))))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever the decoder raises as one InputMismatch."""
    try:
        yield
    except _BROKEN as error:
        said = str(error).strip() or type(error).__name__
        raise InputMismatch(
            f"{name} is a sound that cannot be decoded: {said.splitlines()[0][:200]}.",
            hint="Get the file again: it is cut off, broken, or of a kind that this libsndfile"
            " lacks.",
        ) from error
