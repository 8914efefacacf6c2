"""Bundles that several benchmarks share, made once from the zoo."""

from __future__ import annotations

from pathlib import Path

import edgekit
from benchmarks.zoo import fetch
from edgekit.core.bundle import open_bundle

FOLDER = Path("demo")
SENTIMENT, DIGITS, EMBEDDINGS = "minilm-sentiment", "digits-cnn", "minilm"
SMOLLM2 = "smollm2"
# The sentiment classifier is the demo's own.
_FOLDERS = {SENTIMENT: FOLDER, DIGITS: FOLDER / DIGITS, EMBEDDINGS: FOLDER / EMBEDDINGS}
_INPUTS = {DIGITS: ("image=float32:batch,1,28,28",)}
_DATA = {
    SENTIMENT: ("movies", "movies.csv"),
    DIGITS: ("digits", "digits.npz"),
    SMOLLM2: ("brown", "brown.csv"),
}


def source(model: str) -> str:
    """A model of the zoo as a SOURCE."""
    folder = fetch(model)
    return f"{folder / 'model.py'}:build" if model == DIGITS else str(folder)


def data(model: str) -> Path:
    """Samples that the model was not trained on, labelled where it has labels."""
    entry, file = _DATA[model]
    return fetch(entry) / file


def exported(model: str) -> Path:
    """The exported bundle of a model, made when it is not there."""
    path = _FOLDERS[model] / "exported"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        edgekit.export(source(model), path, inputs=_INPUTS.get(model, ()))
    open_bundle(path, check="quick")
    return path


def sentiment_bundle() -> Path:
    """The exported sentiment classifier."""
    return exported(SENTIMENT)


def compiled(target: str, model: str = SENTIMENT) -> Path:
    """A model compiled for a target, in a folder that has the engine's name."""
    name = "openvino" if target == "openvino-cpu" else "onnxruntime"
    path = _FOLDERS[model] / name
    if not path.exists():
        edgekit.compile(exported(model), path, target=target)
    return path
