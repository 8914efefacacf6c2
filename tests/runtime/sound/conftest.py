"""Sounds of every kind, and a graph that spells what it hears."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import Requires, TensorSpec
from tests.runtime.conftest import Graph, write_bundle

RATE = 1_000
FRAME = 10
TOKENS = ("<pad>", "|", "a", "b")
# The level of a frame by what it says.
LEVELS = {"_": 0.0, " ": 0.9, "a": 0.5, "b": -0.5}
CTC = {"kind": "ctc", "blank": 0, "delimiter": 1, "stride": 10 * FRAME}


def wave(samples: int, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A chord with noise in it."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    tones = sum(np.sin(2 * np.pi * rate * part * time) for part in (0.01, 0.03, 0.11))
    return np.asarray(0.2 * tones + random.normal(0, 0.02, samples), np.float32)


def stored(array: np.ndarray, rate: int = RATE, format: str = "WAV", **options: Any) -> bytes:
    """The bytes of a file of a sound."""
    stream = io.BytesIO()
    soundfile.write(stream, array, rate, format=format, **options)
    return stream.getvalue()


def spoken(text: str) -> np.ndarray:
    """Samples whose frames say the letters of a text, "_" for a blank."""
    return np.repeat([LEVELS[letter] for letter in text], FRAME).astype(np.float32)


def processor(**changes: Any) -> dict[str, Any]:
    """The rules of a speller of frames of ten samples."""
    return {
        "kind": "audio",
        "sampling_rate": RATE,
        "longest": 60 * FRAME,
        "convolutions": [[FRAME, FRAME]],
        "ops": [],
        "inputs": ["input_values"],
        "post": CTC,
        **changes,
    }


def speller(output: Path, *, samples: int | str = "samples", batch: int | str = "batch") -> Bundle:
    """A bundle that spells a, b and blanks by the level of each frame."""
    frames = samples // FRAME if isinstance(samples, int) else "frames"
    graph = Graph(
        [TensorSpec("input_values", "float32", (batch, samples))],
        [TensorSpec("logits", "float32", (batch, frames, len(TOKENS)))],
    )
    # Distance to each level, as a line: 2·level·mean − level².
    levels = np.array([LEVELS[letter] for letter in "_ ab"], np.float32)
    weights = np.repeat(2 * levels[:, None, None] / FRAME, FRAME, axis=2)
    graph.weight("weights", weights.astype(np.float32))
    graph.weight("bias", -np.square(levels))
    graph.weight("middle", np.array([1], np.int64))
    graph.op("Unsqueeze", "input_values", "middle", to="waves")
    graph.op("Conv", "waves", "weights", "bias", to="scores", strides=[FRAME])
    graph.op("Transpose", "scores", to="logits", perm=[0, 2, 1])
    return write_bundle(
        output,
        graph,
        task="automatic-speech-recognition",
        labels=TOKENS,
        processor=processor(),
        requires=Requires("onnxruntime", extras=("audio",)),
    )


def classifier(output: Path, *, samples: int | str = "samples") -> Bundle:
    """A bundle that says whether a sound is above zero or below, on average."""
    graph = Graph(
        [TensorSpec("input_values", "float32", ("batch", samples))],
        [TensorSpec("logits", "float32", ("batch", 2))],
    )
    graph.weight("middle", np.array([1], np.int64))
    graph.weight("signs", np.array([[1, -1]], np.float32))
    graph.op("ReduceMean", "input_values", "middle", to="mean", keepdims=1)
    graph.op("MatMul", "mean", "signs", to="logits")
    return write_bundle(
        output,
        graph,
        task="audio-classification",
        labels=("above", "below"),
        processor=processor(convolutions=[], post={"kind": "audio-classification"}),
    )
