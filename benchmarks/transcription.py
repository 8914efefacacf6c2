"""What writing a sentence down costs: `whisper-tiny-en` on both engines beside transformers.

``python -m benchmarks.transcription [--clips N]``. Recorded sentences, decoded and resampled
beforehand, go one at a time through transformers' pipeline in float32, and through our bundle on
both engines; each is a process of its own, and all of them hear a sentence in random order before
the next one comes. The pipeline searches with 5 beams unless it is told otherwise, which no model
here asks for: what is compared is its greedy answer, and the other is told beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from benchmarks.measure import Times, compare, factor, median, report
from benchmarks.processes import THREADS, Contender, close, serve, started, told, turns
from benchmarks.zoo import fetch
from edgekit.runtime.sound.decoding import read_sound
from edgekit.sources.data import read_samples

PIPELINE = "transformers pipeline f32, greedy"
_BEAMS = "transformers pipeline f32, its 5 beams"
_ENGINES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}
_TASK = "automatic-speech-recognition"
_RATE = 16_000
_MOST = 30 * _RATE

Listen = Callable[[np.ndarray[Any, Any]], str]


def child(kind: str, path: Path) -> None:
    """Write down the sound of each path on standard input; a line of JSON each."""

    def make() -> Callable[[Any], object]:
        beams = {"greedy": 1, "beams": 5}.get(kind)
        listen = _ours(path, kind) if beams is None else _pipeline(path, beams)

        def respond(clip: Any) -> object:
            wave = read_sound(Path(clip), _RATE, most=_MOST)
            begin = time.perf_counter()
            text = listen(wave)
            return {"ms": (time.perf_counter() - begin) * 1e3, "text": text.strip()}

        return respond

    serve(make)


def _ours(path: Path, engine: str) -> Listen:
    model = edgekit.load(path, engine=engine, threads=THREADS)

    def listen(wave: np.ndarray[Any, Any]) -> str:
        answer: Any = model((wave, _RATE))
        return str(answer["text"])

    return listen


def _pipeline(path: Path, beams: int) -> Listen:
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    heard = transformers.pipeline(_TASK, model=str(path), dtype=torch.float32, device="cpu")

    def listen(wave: np.ndarray[Any, Any]) -> str:
        return str(heard(wave, generate_kwargs={"num_beams": beams})["text"])

    return listen


def measure(
    contenders: Mapping[str, Contender], clips: list[Path]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Times of every contender, as ratios to the pipeline's, and how many texts are the same."""
    times: Times = {name: [] for name in contenders}
    same = dict.fromkeys(contenders, 0)
    order = random.Random(0)
    for number, clip in enumerate(clips):
        if number % 10 == 0:
            told(f"sentence {number + 1} of {len(clips)}")
        answers = turns(contenders, order, str(clip))
        for name, answer in answers.items():
            times[name].append(np.array([answer["ms"]]))
            same[name] += answer["text"] == answers[PIPELINE]["text"]
    figures: dict[str, dict[str, Any]] = {}
    for name in contenders:
        ratio = compare(times, PIPELINE, name)
        figures[name] = {
            "ms": median(times, name),
            "ratio": [ratio.value, ratio.low, ratio.high],
            "same": [same[name], len(clips)],
        }
    return figures, [" | ".join(map(str, row)) for row in rows(figures)]


def rows(found: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """(what, median, times as fast as the pipeline, texts that are the same) for README's table."""
    made: list[tuple[object, ...]] = []
    for name, one in found.items():
        alone = name == PIPELINE
        same, count = one["same"]
        ratio = "" if alone else factor(one["ratio"])
        made.append((name, f"{one['ms']:.0f} ms", ratio, "" if alone else f"{same} of {count}"))
    return made


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60, help="recorded sentences")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if chosen.child:
        child(chosen.child[0], Path(chosen.child[1]))
        return
    source = fetch("whisper-tiny-en")
    samples = read_samples(str(fetch("speech") / "speech.csv"), _TASK, limit=chosen.clips)
    clips = [Path(str(one["audio"])) for one in samples.inputs]
    with tempfile.TemporaryDirectory(prefix="edgekit-transcription-") as folder:
        told("exporting")
        exported = edgekit.export(str(source), Path(folder) / "exported").output
        wanted = {PIPELINE: ("greedy", str(source)), _BEAMS: ("beams", str(source))}
        wanted |= {f"{name} f32": (engine, str(exported)) for name, engine in _ENGINES.items()}
        contenders = started("benchmarks.transcription", wanted, str(clips[0]), optional=())
        try:
            figures, lines = measure(contenders, clips)
        finally:
            close(contenders)
    report("transcription", figures, lines)


if __name__ == "__main__":
    main()
