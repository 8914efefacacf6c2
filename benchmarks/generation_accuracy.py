"""What bundles of models that generate lose of their accuracy: `smollm2`, `whisper-tiny-en`.

``python -m benchmarks.generation_accuracy [--limit N] [--clips N] [--bundles DIR]``. The perplexity
of `smollm2` on passages of the Brown corpus, in float32 and with weights of 8 bits, and the word
error rate of `whisper-tiny-en` on recorded sentences, each on both engines, beside PyTorch's own on
the same rows, with the interval of the drop.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edgekit
from benchmarks.generation import make_bundles
from benchmarks.measure import report
from benchmarks.processes import THREADS, told
from benchmarks.zoo import fetch
from edgekit.evaluation.accuracy import evaluate
from edgekit.sources.data import Samples, read_samples
from edgekit.sources.opening import open_reference

_ENGINES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}
_PRECISIONS = ("f32", "int8")
_SPEECH = "automatic-speech-recognition"
# Of word errors in points: of a rate of a few percent, shares tell of nothing.
_BUDGETS = {"text-generation": "1%", _SPEECH: "1pt"}
_UNITS = {"relative": "%", "points": "pt"}


def decoders(source: Path, folder: Path) -> dict[str, tuple[Path, str | None]]:
    """(bundle, engine) for each engine and precision; None is the bundle's own engine."""
    made = make_bundles(source, folder, _PRECISIONS)
    return {f"smollm2, {name}": (path, None) for name, path in made.items()}


def listeners(source: Path, folder: Path) -> dict[str, tuple[Path, str | None]]:
    """The same of the model of speech, in float32."""
    exported = folder / "heard"
    if not exported.is_dir():
        told("exporting")
        edgekit.export(str(source), exported)
    return {f"whisper-tiny-en, {name} f32": (exported, engine) for name, engine in _ENGINES.items()}


def judged(
    bundles: Mapping[str, tuple[Path, str | None]], source: Path, samples: Samples, task: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Each bundle beside the reference, on the same rows."""
    reference = open_reference(str(source), task=task)
    figures: dict[str, dict[str, Any]] = {}
    lines: list[str] = []
    for name, (path, engine) in bundles.items():
        told(f"{name}: judging {len(samples)} rows")
        with edgekit.load(path, engine=engine, threads=THREADS) as model:
            found = evaluate(model, reference, samples, max_drop=_BUDGETS[task]).accuracy
        figures[name] = {
            "metric": found.metric,
            "rows": found.samples,
            "reference": found.reference,
            "candidate": found.candidate,
            "unit": found.drop_unit,
            "drop": [found.drop, found.drop_lower_95, found.drop_upper_95],
        }
        lines.append(
            f"{name}: {found.metric} {found.candidate:.5g}, PyTorch {found.reference:.5g}, drop"
            f" {shown(figures[name])}, {found.samples} rows"
        )
        told(lines[-1])
    return figures, lines


def shown(one: Mapping[str, Any]) -> str:
    """The drop with its interval, in percent of PyTorch's value or in points.

    Where both values are the same the interval tells of the number of rows alone.
    """
    # Less than half of the last digit has no sign.
    drop, low, high = (f"{round(100 * value, 2) + 0.0:.2f}" for value in one["drop"])
    told = f"{drop} {_UNITS[one['unit']]}"
    return told if one["candidate"] == one["reference"] else f"{told} ({low} to {high})"


def rows(found: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """(what, metric, PyTorch's, the bundle's, drop) for README's table."""
    made: list[tuple[object, ...]] = []
    for name, one in found.items():
        made.append(
            (
                name, f"{one['metric']}, {one['rows']} rows", f"{one['reference']:.4f}",
                f"{one['candidate']:.4f}", shown(one),
            )
        )  # fmt: skip
    return made


def main() -> None:
    """Judge and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=150, help="passages of the Brown corpus")
    parser.add_argument("--clips", type=int, default=60, help="recorded sentences")
    parser.add_argument(
        "--bundles", type=Path, help="folder where bundles are kept, or lie already"
    )
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="edgekit-accuracy-") as name:
        folder = chosen.bundles or Path(name)
        source = fetch("smollm2")
        texts = read_samples(
            str(fetch("brown") / "brown.csv"), "text-generation", limit=chosen.limit
        )
        made = decoders(source, folder)
        figures, lines = judged(made, source, texts, "text-generation")
        source = fetch("whisper-tiny-en")
        clips = read_samples(str(fetch("speech") / "speech.csv"), _SPEECH, limit=chosen.clips)
        heard, others = judged(listeners(source, folder), source, clips, _SPEECH)
    report("generation_accuracy", {**figures, **heard}, [*lines, *others])


if __name__ == "__main__":
    main()
