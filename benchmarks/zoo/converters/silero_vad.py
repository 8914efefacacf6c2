"""`silero-vad`: voice activity detection as ONNX files, a call's inputs for each, and speech."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

_ROOT = "silero_vad-6.2.3/"
_MODELS = f"{_ROOT}src/silero_vad/data/"
_SPEECH = f"{_ROOT}tests/data/test.wav"

RATE = 16_000
# A chunk of 32 ms, and the end of the one before it, which the models want in front.
CHUNK, CONTEXT = 512, 64
# Somebody is speaking at this second.
_SPOKEN = 3

FILES = (
    "silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_16k_sequence.onnx",
    "silero_vad_half.onnx", "silero_vad_op18_ifless.onnx", "silero_vad_openvino_16k.onnx",
)  # fmt: skip

Arrays = Mapping[str, NDArray[np.generic]]


def build(bench: Bench) -> None:
    """Write each model with NAME.npz, its inputs of one call, speech.wav and the licence."""
    sdist = bench.archives["silero-vad"]
    speech = members.read_tar(sdist, _SPEECH)
    frames = chunks(read_wav(speech))
    for name in FILES:
        (bench.target / name).write_bytes(members.read_tar(sdist, _MODELS + name))
        path = bench.target / name.replace(".onnx", ".npz")
        np.savez(path, **first_call(name, frames[_SPOKEN * RATE // CHUNK :]))
    (bench.target / "speech.wav").write_bytes(speech)
    (bench.target / "LICENSE").write_bytes(members.read_tar(sdist, _ROOT + "LICENSE"))


def read_wav(data: bytes) -> NDArray[np.float32]:
    """The samples of a 16-bit mono file at 16 kHz, from -1 to 1. Raises ZooError for another."""
    with wave.open(io.BytesIO(data)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise ZooError("The speech is not 16-bit mono at 16 kHz. Check the package.")
        raw = file.readframes(file.getnframes())
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768


def chunks(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[chunks, 576]``: each with the end of the one before it in front, the first with zeros."""
    whole = sound[: len(sound) // CHUNK * CHUNK].reshape(-1, CHUNK)
    before = np.concatenate([np.zeros((1, CONTEXT), np.float32), whole[:-1, -CONTEXT:]])
    return np.concatenate([before, whole], axis=1)


def first_call(name: str, frames: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    """The inputs of a model's first call: nothing was heard before."""
    if "sequence" in name:
        empty = np.zeros((1, 1, 128), np.float32)
        return {"input": frames[:8], "h": empty, "c": empty}
    made: dict[str, NDArray[np.generic]] = {
        "input": frames[:1], "state": np.zeros((2, 1, 128), np.float32)
    }  # fmt: skip
    if "half" not in name and "openvino" not in name:
        made["sr"] = np.array(RATE, np.int64)
    return made
