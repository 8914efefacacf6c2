"""Bundles that several benchmarks share, made once from the zoo."""

from __future__ import annotations

from pathlib import Path

import edgekit
from benchmarks.zoo import fetch
from edgekit.core.bundle import open_bundle

FOLDER = Path("demo")


def bundle(name: str, source: Path) -> Path:
    """The exported bundle ``demo/NAME`` of a source, made when it is not there."""
    path = FOLDER / name
    if not path.exists():
        edgekit.export(str(source), path)
    open_bundle(path, check="quick")
    return path


def sentiment_bundle() -> Path:
    """The exported sentiment classifier."""
    return bundle("exported", fetch("minilm-sentiment"))


def compiled(target: str) -> Path:
    """The sentiment classifier compiled for a target, under the demo's names."""
    name = "openvino" if target == "openvino-cpu" else "onnxruntime"
    path = FOLDER / name
    if not path.exists():
        edgekit.compile(sentiment_bundle(), path, target=target)
    return path
