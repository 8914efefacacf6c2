"""The small encoder prepared for ONNX Runtime, and what candidates of it answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.core.bundle import Bundle
from edgekit.quantization import onnxruntime
from edgekit.quantization.recipes import QuantizedComponent, Recipe
from edgekit.runtime.engines.onnxruntime import open_session
from tests.quantization.networks import (
    VNNI,
    Feeds,
    bundle_of,
    encoder,
    texts,
)

TESTS = texts(8, seed=50)


def answers(folder: Path, bundle: Bundle, samples: Sequence[Feeds], **changes: object) -> NDArray:
    """The first output for all samples, one after the other."""
    part = replace(bundle.manifest.components["model"], **changes)
    session = open_session(folder, part, options={}, device="cpu", threads=1)
    try:
        return np.concatenate([session.run(feeds)[part.outputs[0].name] for feeds in samples])
    finally:
        session.close()


def cosine(a: NDArray, b: NDArray) -> float:
    """Of two arrays as they lie flat."""
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


class Encoder:
    """The encoder's bundle, prepared; `closeness` is a recipe's cosine to the float graph."""

    def __init__(self, folder: Path, **options: bool) -> None:
        self.folder = folder
        self.bundle = bundle_of(encoder(**options), folder / "exported")
        self.prepared = onnxruntime.prepare(
            self.bundle, "model", VNNI, folder / "work", texts(), seed=1
        )
        self.expected = answers(self.bundle.path, self.bundle, TESTS)

    def write(self, recipe: Recipe, name: str = "out") -> QuantizedComponent:
        """Write a candidate into a folder of its own."""
        return self.prepared.write(recipe, self.folder / name)

    def closeness(self, recipe: Recipe) -> float:
        """How near the candidate's answers are."""
        made = self.write(recipe, "measured")
        found = answers(self.folder / "measured", self.bundle, TESTS, files=made.component.files)
        return cosine(found, self.expected)
