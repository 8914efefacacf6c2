"""Files, bytes and arrays as mono samples at a rate, and what is refused."""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from edgekit.core import lazy
from edgekit.core.errors import InputMismatch, MissingDependency
from edgekit.runtime.sound import decoding
from edgekit.runtime.sound.decoding import looks_like_sound, opened_sound, read_sound
from tests.runtime.sound.conftest import stored, wave

RATE = 16_000
MOST = 1 << 24


def read(item: object, rate: int = RATE) -> np.ndarray:
    """All of a sound."""
    return read_sound(item, rate, most=MOST)


@pytest.mark.parametrize(
    ("format", "subtype", "apart"),
    [
        ("WAV", "PCM_U8", 1 / 128),
        ("WAV", "PCM_16", 1 / 32768),
        ("WAV", "PCM_24", 1 / 2**23),
        ("WAV", "FLOAT", 0.0),
        ("WAV", "DOUBLE", 1e-7),
        ("RF64", "PCM_16", 1 / 32768),
        ("FLAC", "PCM_16", 1 / 32768),
        ("FLAC", "PCM_24", 1 / 2**23),
        ("AIFF", "PCM_16", 1 / 32768),
        ("OGG", "VORBIS", 0.1),
        ("MP3", "MPEG_LAYER_III", 0.2),
    ],
)
def test_formats_and_widths(format: str, subtype: str, apart: float) -> None:
    """As numbers from −1 to 1, whatever they are stored as."""
    array = wave(RATE, rate=RATE)
    found = read(stored(array, RATE, format, subtype=subtype))
    assert found.dtype == np.float32
    if format != "MP3":
        assert found.shape == array.shape
        assert np.abs(found - array).max() <= apart
    assert len(found) == pytest.approx(RATE, abs=3_000)


def test_channels_are_averaged(tmp_path: Path) -> None:
    """Two or more."""
    left, right = wave(500, 1), wave(500, 2)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    assert np.allclose(read(path), (left + right) / 2, atol=1e-7)
    assert np.allclose(read(str(path)), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("source", [8_000, 11_025, 44_100, 48_000])
@pytest.mark.parametrize("samples", [37, 16_001])
def test_rates_are_soxr_s(source: int, samples: int) -> None:
    """Of as many samples as transformers makes, and in blocks as well as at once."""
    array = wave(samples, rate=source)
    found = read((array, source))
    whole = soxr.resample(array, source, RATE, quality="HQ")
    wanted = -(-samples * RATE // source)
    assert len(found) == wanted
    whole = np.pad(whole, (0, max(0, wanted - len(whole))))[:wanted]
    assert np.allclose(found, whole, atol=1e-5)


def test_blocks_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the file and however many its channels; the length is known before."""
    monkeypatch.setattr(decoding, "_BLOCK", 1_000)
    path = tmp_path / "long.wav"
    array = wave(10_500)
    soundfile.write(path, np.stack([array] * 4, axis=1), 48_000, subtype="FLOAT")
    with opened_sound(path, 48_000) as recording:
        assert recording.samples == 10_500
        blocks = list(recording.blocks)
    assert max(len(block) for block in blocks) <= 250
    assert np.allclose(np.concatenate(blocks), array)


@pytest.mark.parametrize("form", ["tuple", "array", "raw"])
def test_arrays_bring_their_rate(form: str) -> None:
    """As a pair, or as a row of `datasets`."""
    array = wave(100).astype(np.float64)
    item: Any = (array, RATE) if form == "tuple" else {form: array, "sampling_rate": RATE}
    assert np.allclose(read(item), array, atol=1e-7)
    assert np.allclose(read((array.astype(np.float16), np.int64(RATE))), array, atol=1e-3)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (np.zeros(9, np.float32), "(array, sampling_rate), got float32[9]"),
        ((np.zeros(9, np.int16), RATE), "float32[samples], got int16[9]"),
        ((np.zeros((9, 2), np.float32), RATE), "float32[samples], got float32[9, 2]"),
        (([0.0, 1.0], RATE), "float32[samples], got list"),
        ((np.zeros(9, np.float32), 0), "1,000 to 1,000,000 Hz, got 0"),
        ((np.zeros(9, np.float32), 44.1), "got 44.1"),
        ((np.zeros(9, np.float32), True), "got True"),
        ((np.zeros(0, np.float32), RATE), "holds no samples"),
        ((np.array([0, np.nan, np.inf], np.float32), RATE), "2 samples that are NaN or infinite"),
        (3, "got int"),
        ({"text": "a"}, "got dict"),
        ("https://example.org/a.wav", "is an address"),
        ("none.wav", "cannot be opened"),
        ("x" * 5000, "cannot be opened"),
        (b"", "it is empty"),
        (b"hello world", "it begins with 'hello world'"),
        (b"\0\0\0\x20ftypM4A ", "it is an MP4 file"),
        (b"RIFF\x24\0\0\0WAVE", "cannot be decoded"),
        (b"fLaC" + b"\0" * 40, "cannot be decoded"),
        (stored(np.zeros(0, np.float32)), "holds no samples"),
        (stored(np.zeros(50, np.float32), 700), "sampling rate of 700 Hz"),
        (stored(np.array([0, np.nan] * 9), subtype="FLOAT"), "9 samples that are NaN"),
    ],
)
def test_what_is_no_sound(item: object, told: str) -> None:
    """Each has a message that says what it is."""
    with pytest.raises(InputMismatch) as caught:
        read(item)
    assert told in caught.value.message
    assert caught.value.hint


def test_text_called_wav(tmp_path: Path) -> None:
    """What a file is follows from its first bytes."""
    path = tmp_path / "talk.wav"
    path.write_text("not a sound")
    with pytest.raises(InputMismatch, match="is not a sound: it begins with 'not a sound'"):
        read(path)
    assert not looks_like_sound(path)
    path.write_bytes(stored(wave(50), format="FLAC"))
    assert looks_like_sound(path)
    assert len(read(path, 1_000)) == 50


@pytest.mark.parametrize("format", ["WAV", "FLAC", "AIFF"])
def test_cut_off_files(format: str) -> None:
    """A part of a sound would be answered as the whole."""
    data = stored(wave(20_000), format=format, subtype="PCM_16")
    for part in (0.5, 0.9):
        with pytest.raises(InputMismatch, match=r"cut off|cannot be decoded"):
            read(data[: int(len(data) * part)], 1_000)


SIZES = (0xFFFFFFFF, 0xFFFFF000, 0x7FFFF000, 0x7FFFFF00, 0x80000000, 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_wav_of_unknown_length(subtype: str, size: int) -> None:
    """As programs write it that stream; what is there is all of it."""
    array = wave(400)
    data = bytearray(stored(array, subtype=subtype))
    place = data.index(b"data") + 4
    struct.pack_into("<I", data, place, size)
    struct.pack_into("<I", data, 4, min(size + place - 4, 0xFFFFFFFF))
    assert np.allclose(read(bytes(data), 1_000), array, atol=1e-4)


def test_wav_of_nothing_is_closed(tmp_path: Path) -> None:
    """Its own length says so: what stands behind no sound is none."""
    data = bytearray(stored(np.zeros(0, np.float32), subtype="PCM_16"))
    data += b"LIST" + struct.pack("<I", 8) + b"INFOabcd"
    struct.pack_into("<I", data, 4, len(data) - 8)
    path = tmp_path / "none.wav"
    path.write_bytes(data)
    with pytest.raises(InputMismatch, match="holds no samples"):
        read(path, 1_000)


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    """As an encoder writes it to a pipe: its head tells no number of samples."""
    array = wave(3 * RATE, rate=RATE)
    data = bytearray(stored(array, RATE, "FLAC", subtype="PCM_16"))
    # 36 bits of STREAMINFO, which begins behind eight bytes.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path = tmp_path / "streamed.flac"
    path.write_bytes(data)
    for item in (bytes(data), path):
        assert np.allclose(read(item), array, atol=1 / 32768)


@pytest.mark.parametrize("kind", ["file", "array"])
def test_what_is_resampled_is_small(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far apart the rates are: a block of samples read would be a million here."""
    monkeypatch.setattr(decoding, "_BLOCK", 10_000)
    array = wave(20_000)
    item: Any = (array, 1_000) if kind == "array" else stored(array, 1_000, subtype="FLOAT")
    with opened_sound(item, 100_000) as recording:
        blocks = list(recording.blocks)
    assert sum(map(len, blocks)) == 2_000_000
    # soxr gives what it has made in pieces of its own, of up to some 80,000 samples.
    assert max(map(len, blocks)) <= 200_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_are_read_to_their_end() -> None:
    """They cannot be wound back."""
    data = stored(wave(300), subtype="FLOAT")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipe")
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(data,))
        writer.start()
        found = read(path, 1_000)
        writer.join()
    assert np.allclose(found, wave(300))


@pytest.mark.parametrize("missing", ["soundfile", "soxr"])
def test_missing_packages(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told with the line that installs them."""
    real = lazy.importlib.import_module

    def refuse(name: str) -> object:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    monkeypatch.setattr(lazy.importlib, "import_module", refuse)
    with pytest.raises(MissingDependency, match=missing) as caught:
        read(stored(wave(100), 8_000))
    assert "audio" in (caught.value.hint or "")
