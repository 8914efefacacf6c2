"""What picture models gain over PyTorch eager, and what preparing pictures costs.

``python -m benchmarks.vision [--only PART …] [--budget SECONDS]``. The parts, each timed in one
interleaved run and kept in ``benchmarks/results/vision.json``:

- ``efficientnet``: `efficientnet-lite0` and its photographs, at batch 1;
- ``digits``: `digits-cnn`, at batch 1;
- ``large``: ViT-B/16 and ResNet-50 with random weights, at batch 1, and their cosine to PyTorch;
- ``prepare``: decoding and preparing a JPEG of 12 megapixels, against Pillow's own decode and
  resize, with the peak of memory.

PyTorch runs in whichever memory format and number of threads is faster for it, chosen anew in each
process and told.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from benchmarks.measure import compare, factor, interleaved_calls, machine, median, run_peak
from benchmarks.models import DIGITS, FOLDER, exported, source
from benchmarks.zoo import fetch
from edgekit.core.errors import BudgetNotMet
from edgekit.core.measurements import BenchResult, ValidateResult
from edgekit.evaluation.contenders import REFERENCE, ReferenceSource
from edgekit.evaluation.latency import bench
from edgekit.evaluation.measuring import Measuring
from edgekit.pipeline.provenance import versions

RESULTS = Path(__file__).resolve().parent / "results" / "vision.json"
THREADS = 2
_PROCESSES = 4
_ENGINES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ort-fp32": ("onnxruntime", ()),
    "openvino-f32": ("openvino", ("options.openvino.precision_hint=f32",)),
    # A table shows how far off a precision is: nobody is disqualified for a thousandth.
    "openvino-bf16": (
        "openvino",
        (
            "options.openvino.precision_hint=bf16",
            'tolerance.bf16={kind="cosine",minimum=0.99}',
        ),
    ),
}
_OWN = "ort-fp32-own"
_FULL = ("ort-fp32", "openvino-f32")
# (width, height) of a camera's picture, and of what it is made to.
_CAMERA = (4000, 3000)
_MB = 1_000_000

Facts = dict[str, object]


def compiled(bundle: Path, folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The bundle for each engine and precision, made anew, chosen for the threads of the table.

    One more is as an app gets it that names no threads: it has those that were found fastest.
    """
    found: dict[str, Path] = {}
    if _OWN in names:
        found[_OWN] = folder / _OWN
        edgekit.compile(bundle, found[_OWN], engine="onnxruntime", force=True)
    for name in (one for one in names if one != _OWN):
        engine, overrides = _ENGINES[name]
        found[name] = folder / name
        edgekit.compile(
            bundle, found[name], engine=engine, overrides=overrides, threads=THREADS, force=True
        )
    return found


def timed(paths: Mapping[str, Path], reference: str, budget: float) -> tuple[Facts, BenchResult]:
    """PyTorch eager and all bundles in one run: medians, and speed over PyTorch's.

    No number of threads is asked for: the machine has as many as the table says, and a bundle that
    was compiled without a number keeps its own.
    """
    measuring = Measuring(budget=budget, processes=_PROCESSES, warm_seconds=1.0)
    result = bench([*paths.values()], ReferenceSource(reference), measuring)
    ratios = {one.b: one for one in result.ratios}
    rows: dict[str, Facts] = {}
    for row in result.contenders:
        own = ratios.get(row.name)
        rows[row.name] = {
            "p50_ms": row.p50_ms,
            "settings": row.settings,
            "error": row.error,
            "speed": None if own is None else [own.value, own.low, own.high],
        }
    noise = result.noise
    told = {
        "aa": [noise.aa_ratio, noise.aa_low, noise.aa_high],
        "verdict": noise.verdict,
        "causes": list(noise.causes),
    }
    return {"rows": rows, "noise": told}, result


def _labels(bundle: Path, pictures: Sequence[Path]) -> int:
    """How many photographs get the label of their folder."""
    with edgekit.load(bundle, threads=THREADS) as model:
        answers: Any = model([*pictures])
    best = [answer[0]["label"] for answer in answers]
    return sum(
        label == f"LABEL_{path.parent.name}" for label, path in zip(best, pictures, strict=True)
    )


def efficientnet_part(budget: float) -> Facts:
    """A trained network on photographs."""
    folder = FOLDER / "vision" / "efficientnet"
    zoo = fetch("efficientnet-lite0")
    factory = f"{zoo / 'model.py'}:build"
    bundle = folder / "exported"
    folder.mkdir(parents=True, exist_ok=True)
    edgekit.export(
        factory, bundle, inputs=("image=float32:batch,3,224,224",),
        processor=zoo / "processor.toml", force=True,
    )  # fmt: skip
    paths = compiled(bundle, folder, tuple(_ENGINES))
    pictures = sorted(fetch("pictures").glob("*/*.jpg"))
    facts, _ = timed(paths, factory, budget)
    kept = {name: [_labels(path, pictures), len(pictures)] for name, path in paths.items()}
    return {**facts, "kept": kept}


def digits_part(budget: float) -> Facts:
    """A small network of convolutions."""
    bundle = exported(DIGITS)
    paths = compiled(bundle, FOLDER / "vision" / "digits", (*_FULL, _OWN))
    facts, _ = timed(paths, source(DIGITS), budget)
    return facts


def _random(name: str, folder: Path) -> Path:
    """A checkpoint of a well-known size with random weights and its processor."""
    import torch
    import transformers

    if folder.exists():
        return folder
    torch.manual_seed(0)
    if name == "ViT-B/16":
        model: Any = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000))
        size = {"height": 224, "width": 224}
        processor: Any = transformers.ViTImageProcessorPil(size=size)
    else:
        model = transformers.ResNetForImageClassification(
            transformers.ResNetConfig(num_labels=1000)
        )
        processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": 224})
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _cosine(bundle: Path, reference: Path) -> float:
    """The cosine of a bundle's outputs with PyTorch's, on drawn pictures and golden ones."""
    try:
        found = edgekit.validate(bundle, reference=str(reference), latency=False)
    except BudgetNotMet as missed:
        if not isinstance(missed.result, ValidateResult):
            raise
        found = missed.result
    return min(one.cosine for one in found.numerics.values())


def large_part(budget: float) -> Facts:
    """Two networks of the usual size."""
    found: Facts = {}
    for name in ("ViT-B/16", "ResNet-50"):
        folder = FOLDER / "vision" / name.lower().replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = _random(name, folder / "source")
        bundle = folder / "exported"
        edgekit.export(str(checkpoint), bundle, force=True)
        paths = compiled(bundle, folder, _FULL)
        facts, _ = timed(paths, str(checkpoint), budget)
        cosines = {one: _cosine(path, checkpoint) for one, path in paths.items()}
        found[name] = {**facts, "cosine": cosines}
        # Two sources and their bundles would fill a small disk.
        shutil.rmtree(folder)
    return found


# Both scripts import the same, which is what the third one takes: the rest is their work.
_PICTURE = """
import json
import sys
import numpy
import PIL.JpegImagePlugin
from PIL import Image
from edgekit.runtime.pictures.processor import PictureProcessor
"""
_THEIRS = (
    _PICTURE
    + """
image = Image.open(sys.argv[1]).convert("RGB")
image.resize((341, 256), Image.Resampling.BICUBIC)
"""
)
_OURS = (
    _PICTURE
    + """
PictureProcessor(json.loads(sys.argv[2])).encode(sys.argv[1])
"""
)


def prepare_part(budget: float) -> Facts:
    """From a camera's file to a network's input, and Pillow's part of that alone."""
    import tomllib

    from PIL import Image

    from edgekit.runtime.pictures.processor import PictureProcessor
    from edgekit.sources.pictures import draw

    folder = FOLDER / "vision"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "camera.jpg"
    draw(*_CAMERA).save(path, quality=90)
    rules = tomllib.loads((fetch("efficientnet-lite0") / "processor.toml").read_text())
    processor = {"kind": "image", **{key: rules[key] for key in ("ops", "post")}}
    ours = PictureProcessor(processor)

    def theirs() -> object:
        image = Image.open(path).convert("RGB")
        return image.resize((341, 256), Image.Resampling.BICUBIC)

    rounds = max(5, int(budget / 2))
    calls: dict[str, Callable[[], object]] = {
        "edgekit": lambda: ours.encode(path),
        "pillow": theirs,
    }
    times = interleaved_calls(calls, rounds=rounds, each=3, warm=2)
    ratio = compare(times, "edgekit", "pillow")
    python, words = sys.executable, [str(path), json.dumps(processor)]
    base = run_peak([python, "-c", _PICTURE])
    peaks = {
        name: run_peak([python, "-c", script, *words]) - base
        for name, script in (("edgekit", _OURS), ("pillow", _THEIRS))
    }
    return {
        "pixels": int(np.prod(_CAMERA)),
        "ms": {name: median(times, name) for name in calls},
        "ratio": [ratio.value, ratio.low, ratio.high],
        "peak_above_imports": peaks,
        "decoded_bytes": 3 * int(np.prod(_CAMERA)),
    }


PARTS: Mapping[str, Callable[[float], Facts]] = {
    "efficientnet": efficientnet_part,
    "digits": digits_part,
    "large": large_part,
    "prepare": prepare_part,
}


def kept() -> dict[str, Any]:
    """What was measured last; empty where nothing was."""
    if not RESULTS.is_file():
        return {}
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def rows() -> list[tuple[object, ...]]:
    """(model, how, median, speed over PyTorch, what else) of everything that is kept."""
    found: list[tuple[object, ...]] = []
    parts = {name: part["facts"] for name, part in kept().get("parts", {}).items()}
    networks = {
        "`efficientnet-lite0`": parts.get("efficientnet"),
        "`digits-cnn`": parts.get("digits"),
        **{f"{name}, random": facts for name, facts in parts.get("large", {}).items()},
    }
    for label, facts in networks.items():
        for name, row in (facts or {}).get("rows", {}).items():
            found.append((label, _name(name, row), _ms(row), _speed(row), _beside(facts, name)))
    if "prepare" in parts:
        facts = parts["prepare"]
        value, low, high = facts["ratio"]
        for name, label in (
            ("pillow", "Pillow: decode, resize"),
            ("edgekit", "edgekit: all of it"),
        ):
            took = f"{value:.2f}× the time ({low:.2f}–{high:.2f})" if name == "edgekit" else ""
            peak = facts["peak_above_imports"][name] / _MB
            found.append(
                ("12-megapixel JPEG to 224×224", label, f"{facts['ms'][name]:.0f} ms", took,
                 f"{peak:.0f} MB at most; decoded it has {facts['decoded_bytes'] / _MB:.0f}")
            )  # fmt: skip
    return found


def where() -> str:
    """The machine, the versions and the noise of what is kept."""
    whole = kept()
    if not whole:
        return ""
    lines = []
    for name, part in whole["parts"].items():
        used = part["versions"]
        packages = ", ".join(
            f"{one} {used[one]}" for one in ("torch", "onnxruntime", "openvino") if one in used
        )
        facts = part["facts"]
        runs = facts.values() if name == "large" else [facts]
        noise = {run["noise"]["verdict"] for run in runs if "noise" in run}
        quiet = f"; the machine was {' and '.join(sorted(noise))}" if noise else ""
        lines.append(f"{name}: {part['machine']['cpu']}, {THREADS} threads; {packages}{quiet}.")
    return (
        "Speed: PyTorch's median over the row's own, interleaved in one run, with its 95 %"
        " interval. In bf16 the cosine to PyTorch may fall to .99 here, where `edgekit validate`"
        " asks for .999. Made by `python -m benchmarks.vision`. " + " ".join(dict.fromkeys(lines))
    )


def _name(name: str, row: Mapping[str, Any]) -> str:
    return f"PyTorch eager ({row['settings']})" if name == REFERENCE else name


def _ms(row: Mapping[str, Any]) -> str:
    value = row["p50_ms"]
    return "failed" if value is None else f"{value:.{2 if value < 10 else 1}f} ms"


def _speed(row: Mapping[str, Any]) -> str:
    return "" if row["speed"] is None else factor(row["speed"])


def _beside(facts: Mapping[str, Any], name: str) -> str:
    if name in facts.get("kept", {}):
        right, count = facts["kept"][name]
        return f"{right} of {count} photographs"
    if name in facts.get("cosine", {}):
        return f"cosine {facts['cosine'][name]:.6f}"
    return ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vision")
    parser.add_argument("--only", action="append", choices=[*PARTS], help="a part; repeatable")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of timing per run")
    given = parser.parse_args(arguments)
    for name in given.only or PARTS:
        facts = PARTS[name](given.budget)
        # Kept after each: a later one may fail.
        whole = kept()
        part = {
            "machine": machine(), "versions": versions(), "budget_seconds": given.budget,
            "facts": facts,
        }  # fmt: skip
        whole["parts"] = {**whole.get("parts", {}), name: part}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(facts, indent=1)}", flush=True)


if __name__ == "__main__":
    main()
