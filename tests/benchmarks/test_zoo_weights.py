"""The zoo's readers of other programs' weights, on files made in code."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from benchmarks.zoo.converters import smollm2, whisper_tiny_en
from benchmarks.zoo.ctranslate2 import Container, read_container
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.gguf import read_gguf


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _gguf() -> bytes:
    """A text, a list of numbers, and a block of each kind of weights."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 3, 2)
    head += _text("name") + struct.pack("<I", 8) + _text("tiny")
    head += _text("list") + struct.pack("<IIQ3i", 9, 5, 3, 1, -2, 3)
    plain = np.arange(32, dtype="<f4").tobytes()
    half = struct.pack("<e", 0.5)
    # The lower four bits are the first half of a block, the upper ones the second.
    nibbles = bytes(low | (15 - low) << 4 for low in range(16))
    four = half + struct.pack("<e", -1.0) + nibbles
    eight = half + np.arange(-16, 16, dtype=np.int8).tobytes()
    place = 0
    body = b""
    for name, kind, block in (("plain", 0, plain), ("four", 3, four), ("eight", 8, eight)):
        head += _text(name) + struct.pack("<IQQIQ", 2, 16, 2, kind, place)
        body += block + bytes(-len(block) % 32)
        place = len(body)
    return head + bytes(-len(head) % 32) + body


def test_gguf_is_read() -> None:
    """Values, and weights of three kinds, in numpy's order of axes."""
    held = read_gguf(_gguf())
    assert held.values == {"name": "tiny", "list": [1, -2, 3]}
    assert {array.shape for array in held.tensors.values()} == {(2, 16)}
    assert held.tensors["plain"].ravel().tolist() == list(range(32))
    np.testing.assert_array_equal(held.tensors["four"][0], np.arange(16) * 0.5 - 1)
    np.testing.assert_array_equal(held.tensors["four"][1], np.arange(15, -1, -1) * 0.5 - 1)
    np.testing.assert_array_equal(held.tensors["eight"].ravel(), np.arange(-16, 16) * 0.5)


def test_another_format_is_refused() -> None:
    """What is no GGUF file is an error, and so are weights that nobody here can read."""
    with pytest.raises(ZooError, match="no GGUF file"):
        read_gguf(b"PK\x03\x04" + bytes(60))
    broken = _gguf().replace(struct.pack("<QQI", 16, 2, 3), struct.pack("<QQI", 16, 2, 14))
    with pytest.raises(ZooError, match="of kind 14"):
        read_gguf(broken)


def test_rotation_comes_back() -> None:
    """Rows that lay beside each other, as pairs, are halves of a head again."""
    weight = np.arange(8, dtype=np.float32)[:, None]
    assert smollm2.unrotated(weight, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def _container(arrays: dict[str, np.ndarray]) -> bytes:
    def text(name: str) -> bytes:
        return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"

    made = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        made += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        made += struct.pack("<BI", {"f": 4, "i": 2}[array.dtype.kind], array.nbytes)
        made += array.tobytes()
    return made + struct.pack("<I", 1) + text("projection") + text("embeddings")


def test_ctranslate2_is_read() -> None:
    """Arrays keep type and shape; what follows the end is an error."""
    arrays = {"heads": np.array(6, "<i2"), "embeddings": np.arange(6, dtype="<f2").reshape(2, 3)}
    held = read_container(_container(arrays))
    assert (held.kind, held.aliases) == ("WhisperSpec", {"projection": "embeddings"})
    assert int(held.arrays["heads"]) == 6
    np.testing.assert_array_equal(held.arrays["embeddings"], arrays["embeddings"])
    with pytest.raises(ZooError, match="3 bytes behind"):
        read_container(_container(arrays) + b"abc")


def test_whispers_projections_are_split() -> None:
    """Three projections in one are three; keys have no bias, and one of keys is refused."""
    name = "encoder/layer_0/self_attention/linear_0"
    arrays = {
        f"{name}/weight": np.arange(12, dtype=np.float16).reshape(6, 2),
        f"{name}/bias": np.array([1, 2, 0, 0, 5, 6], np.float16),
    }
    state = whisper_tiny_en.state_of(Container("WhisperSpec", arrays, {}))
    prefix = "model.encoder.layers.0.self_attn"
    assert set(state) == {
        *(f"{prefix}.{part}_proj.weight" for part in "qkv"),
        *(f"{prefix}.{part}_proj.bias" for part in "qv"),
    }
    assert state[f"{prefix}.k_proj.weight"].tolist() == [[4, 5], [6, 7]]
    assert state[f"{prefix}.v_proj.bias"].tolist() == [5, 6]
    arrays[f"{name}/bias"] = np.ones(6, np.float16)
    with pytest.raises(ZooError, match="bias for keys"):
        whisper_tiny_en.state_of(Container("WhisperSpec", arrays, {}))
