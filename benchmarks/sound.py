"""What sounds cost: decoding and features beside transformers', the model beside PyTorch eager.

``python -m benchmarks.sound [--budget SECONDS]``. Ten seconds of a stereo FLAC at 44.1 kHz and of a
WAV at 16 kHz become tensors by our processor, and by transformers' `load_audio` and extractor,
interleaved in one process. The models are of the families' own size with random weights: they tell
of speed alone. Each hears a clip of five seconds, on both engines and in PyTorch, interleaved in
fresh processes (see `edgekit.evaluation.latency`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from benchmarks.measure import compare, factor, interleaved_calls, median, report, shown
from edgekit.exporters.sounds import translate
from edgekit.runtime.sound.processor import SoundProcessor
from edgekit.sources.sounds import compose, takes_waves

ROUNDS = 30
SECONDS = 10
_LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUCMWFGYPBVKXJQZ'")
_TARGETS = {"onnxruntime": "host", "openvino": "openvino-cpu"}
_ENGINE = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Model:
    """A model class of transformers at its family's own size, and its extractor."""

    kind: str
    extractor: str
    letters: bool = False


MODELS: Mapping[str, Model] = {
    "wav2vec2-base, speech": Model("Wav2Vec2ForCTC", "Wav2Vec2FeatureExtractor", letters=True),
    "wav2vec2-base, classes": Model(
        "Wav2Vec2ForSequenceClassification", "Wav2Vec2FeatureExtractor"
    ),
    "ast-base, classes": Model("ASTForAudioClassification", "ASTFeatureExtractor"),
}


def recordings(folder: Path) -> dict[str, Path]:
    """The same sound twice: stereo at the rate of music, and as models take it."""
    import soundfile

    found = {"FLAC 44.1 kHz stereo": folder / "music.flac", "WAV 16 kHz": folder / "speech.wav"}
    left, right = (compose(SECONDS * 44_100, seed, 44_100) for seed in (1, 2))
    soundfile.write(found["FLAC 44.1 kHz stereo"], np.stack([left, right], axis=1), 44_100)
    soundfile.write(found["WAV 16 kHz"], compose(SECONDS * 16_000, 3), 16_000)
    return found


def ours(extractor: Any) -> SoundProcessor:
    """Our processor for what an extractor does."""
    return SoundProcessor(
        {
            "kind": "audio",
            "sampling_rate": extractor.sampling_rate,
            "longest": 60 * extractor.sampling_rate,
            "ops": translate(extractor),
            "inputs": [extractor.model_input_names[0]],
        }
    )


def features(folder: Path) -> tuple[dict[str, object], list[str]]:
    """From a file to a tensor, by extractor and file: transformers' time over ours."""
    import transformers
    from transformers.audio_utils import load_audio

    figures: dict[str, object] = {}
    lines: list[str] = []
    for name in ("Wav2Vec2FeatureExtractor", "ASTFeatureExtractor", "WhisperFeatureExtractor"):
        extractor = getattr(transformers, name)()
        processor = ours(extractor)
        for kind, path in recordings(folder).items():

            def by_us(path: Path = path, processor: SoundProcessor = processor) -> object:
                return processor.collate([processor.encode(path)])

            def by_them(path: Path = path, extractor: Any = extractor) -> object:
                rate = extractor.sampling_rate
                wave = load_audio(str(path), sampling_rate=rate, backend="soundfile")
                return extractor(wave, sampling_rate=rate, return_tensors="np")

            calls: dict[str, Callable[[], object]] = {"edgekit": by_us, "transformers": by_them}
            times = interleaved_calls(calls, rounds=ROUNDS, each=3, warm=3)
            ratio = compare(times, "transformers", "edgekit")
            waves = "waves" if takes_waves(extractor) else "log-mel"
            own = median(times, "edgekit")
            figures[f"{name}, {kind}"] = {
                "ratio": [ratio.value, ratio.low, ratio.high],
                "ms": own,
            }
            lines.append(
                f"{name} ({waves}), {SECONDS} s of {kind}: transformers / edgekit {shown(ratio)}"
                f" ({own:.1f} ms)"
            )
    return figures, lines


def saved(model: Model, folder: Path) -> Path:
    """A checkpoint of random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, model.kind)
    config = kind.config_class(**({"vocab_size": len(_LETTERS)} if model.letters else {}))
    kind(config).save_pretrained(folder)
    getattr(transformers, model.extractor)().save_pretrained(folder)
    if model.letters:
        letters = {letter: index for index, letter in enumerate(_LETTERS)}
        (folder / "vocab.json").write_text(json.dumps(letters))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
        tokenizer.save_pretrained(folder)
    return folder


def models(folder: Path, budget: float) -> tuple[dict[str, object], list[str]]:
    """One clip through each model: PyTorch eager's time over that of both engines."""
    figures: dict[str, object] = {}
    lines: list[str] = []
    for number, (name, model) in enumerate(MODELS.items()):
        source = saved(model, folder / f"source-{number}")
        exported = edgekit.export(str(source), folder / f"exported-{number}").output
        bundles = [
            edgekit.compile(exported, folder / f"{engine}-{number}", target=target).output
            for engine, target in _TARGETS.items()
        ]
        found = edgekit.bench(bundles, reference=str(source), budget=budget)
        for ratio in found.ratios:
            row = next(one for one in found.contenders if one.name == ratio.b)
            figures[f"{name}: {_ENGINE[ratio.b.rpartition('-')[0]]}"] = {
                "ratio": [ratio.value, ratio.low, ratio.high],
                "real_time_factor": row.real_time_factor,
                "seconds": row.audio_seconds,
                "noise": found.noise.verdict,
            }
            lines.append(
                f"{name}, {row.audio_seconds:.0f} s: {ratio.a} / {ratio.b} {ratio.value:.2f}"
                f" ({ratio.low:.2f}–{ratio.high:.2f}), real-time factor"
                f" {row.real_time_factor or float('nan'):.3g}, noise {found.noise.verdict}"
            )
    return figures, lines


def rows(found: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """(what, against what, times as fast, what else) of the figures that a run has left."""
    made: list[tuple[object, ...]] = []
    for name, one in found["features"].items():
        told = f"{one['ms']:.1f} ms for {SECONDS} s"
        made.append((f"features: {name}", "transformers", factor(one["ratio"]), told))
    for name, one in found["models"].items():
        rtf = one["real_time_factor"]
        told = "" if rtf is None else f"real-time factor {rtf:.3f}"
        noisy = "" if one["noise"] == "quiet" else f", {one['noise']}"
        made.append((f"{name}, random", "PyTorch eager", factor(one["ratio"]), told + noisy))
    return made


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of timing a model")
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="edgekit-sound-") as name:
        folder = Path(name)
        prepared, told = features(folder)
        computed, lines = models(folder, chosen.budget)
    report("sound", {"features": prepared, "models": computed}, [*told, *lines])


if __name__ == "__main__":
    main()
