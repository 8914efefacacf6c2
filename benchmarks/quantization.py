"""What quantization gains and costs: cosine, accuracy, size and speed on both engines.

``python -m benchmarks.quantization [--budget SECONDS]``: some fifteen minutes. Embeddings of
`minilm` are compared with PyTorch's text by text; `minilm-sentiment` and `digits-cnn` go through
``edgekit quantize`` with an accuracy budget, and everything is timed in one interleaved run per
model, beside PyTorch eager. Calibration sees the training split of the snippets alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgekit
from benchmarks.measure import report
from benchmarks.models import DIGITS, EMBEDDINGS, FOLDER, SENTIMENT, data, exported, source
from benchmarks.readme import markdown
from benchmarks.zoo import fetch
from edgekit.cli.console import human_bytes
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import EdgekitError
from edgekit.core.measurements import BenchResult, QuantizeResult
from edgekit.core.results import to_json
from edgekit.evaluation.contenders import REFERENCE, ReferenceSource
from edgekit.evaluation.latency import bench
from edgekit.evaluation.measuring import Measuring

# Texts that cosines are taken on; the calibration rows come from another file.
_TEXTS = 300


@dataclass(frozen=True)
class Recipe:
    """One row of a table: what is asked of ``edgekit quantize`` (nothing: the float bundle)."""

    name: str
    engine: str
    options: Mapping[str, object] | None = None


EMBEDDING_RECIPES = (
    Recipe("ort-fp32", "onnxruntime"),
    Recipe("ort-dynamic", "onnxruntime", {"method": "dynamic"}),
    Recipe("ort-static", "onnxruntime", {"method": "static"}),
    Recipe("ort-weight-int8", "onnxruntime", {"method": "weight-only", "bits": 8}),
    Recipe("ort-weight-int4", "onnxruntime", {"method": "weight-only", "bits": 4}),
    Recipe("openvino-f32", "openvino"),
    Recipe("openvino-dynamic", "openvino", {"method": "dynamic"}),
    Recipe("openvino-static", "openvino", {"method": "static"}),
)
BUDGETED = (
    Recipe("ort-fp32", "onnxruntime"),
    Recipe("ort-int8", "onnxruntime", {}),
    Recipe("openvino-f32", "openvino"),
    Recipe("openvino-int8", "openvino", {}),
)


def made(model: str, recipe: Recipe, **options: object) -> tuple[Path, QuantizeResult | None]:
    """The compiled bundle of a recipe, and what quantize said of it; made anew every time."""
    folder = FOLDER / "quantization" / model
    folder.mkdir(parents=True, exist_ok=True)
    float_bundle, result = exported(model), None
    if recipe.options is not None:
        quantized = folder / f"{recipe.name}-quantized"
        result = edgekit.quantize(
            float_bundle, quantized, engine=recipe.engine, force=True, allow_slower=True,
            **{**options, **recipe.options},  # type: ignore[arg-type]
        )  # fmt: skip
        float_bundle = quantized
    path = folder / recipe.name
    edgekit.compile(float_bundle, path, engine=recipe.engine, force=True)
    return path, result


def embeddings(
    path: Path, texts: Sequence[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """One unit vector per text, by a bundle."""
    with edgekit.load(path) as model:
        return np.stack([np.asarray(vector) for vector in model(list(texts))])


def original(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The same in PyTorch, with transformers' tokenizer."""
    from edgekit.evaluation.reference import Reference
    from edgekit.sources.opening import open_source

    loaded = open_source(source(EMBEDDINGS))
    run = Reference(loaded)
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise RuntimeError(f"{EMBEDDINGS} has no tokenizer")
    rows = []
    for text in texts:
        encoded = tokenizer(text, truncation=True, max_length=loaded.max_length)
        feeds = {name: np.asarray([encoded[name]]) for name in loaded.sample_inputs}
        rows.append(next(iter(run.run(feeds).values()))[0])
    return np.stack(rows)


def cosines(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Text by text."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return np.asarray((found * wanted).sum(axis=1) / lengths)


def snippets(count: int) -> list[str]:
    """Held-out texts, of which no calibration saw any."""
    import csv

    with data(SENTIMENT).open(encoding="utf-8", newline="") as stream:
        rows = [row["text"] for row in csv.DictReader(stream)]
    return rows[:: max(1, len(rows) // count)][:count]


def timed(
    paths: Sequence[Path], model: str | None, batches: Sequence[int], lengths: Sequence[int] | None,
    budget: float,
) -> BenchResult:  # fmt: skip
    """All bundles in one run, beside PyTorch where the model has a reference here."""
    measuring = Measuring(
        batches=tuple(batches), lengths=None if lengths is None else tuple(lengths),
        budget=budget, processes=6,
    )  # fmt: skip
    reference = None if model is None else ReferenceSource(source(model))
    return bench(paths, reference, measuring)


def speeds(result: BenchResult, name: str) -> list[str]:
    """A contender's ratio to the first one at each workload."""
    return [
        f"{one.value:.2f}× ({one.low:.2f}–{one.high:.2f})" for one in result.ratios if one.b == name
    ]


def embedding_table(budget: float) -> tuple[str, dict[str, object]]:
    """Cosine, size and speed of the sentence embeddings by every recipe, against ONNX in float."""
    texts = snippets(_TEXTS)
    wanted = original(texts)
    calibration = str(fetch("movies") / "movies-train.csv")
    paths: list[Path] = []
    facts: dict[str, object] = {}
    rows: list[tuple[object, ...]] = []
    for recipe in EMBEDDING_RECIPES:
        print(f"{EMBEDDINGS}: {recipe.name}", flush=True)
        try:
            path, _ = made(EMBEDDINGS, recipe, calibration=calibration)
        except EdgekitError as error:
            facts[recipe.name] = {"failed": error.message}
            continue
        paths.append(path)
        found = cosines(embeddings(path, texts), wanted)
        facts[recipe.name] = {
            "cosine_mean": float(found.mean()), "cosine_least": float(found.min()),
            "bytes": open_bundle(path, check="quick").bytes(),
        }  # fmt: skip
    result = timed(paths, None, (1,), (16, 128), budget)
    facts["bench"] = to_json(result)
    for path in paths:
        own = facts[path.name]
        assert isinstance(own, dict)
        rows.append(
            (path.name, f"{own['cosine_mean']:.4f}", f"{own['cosine_least']:.4f}",
             human_bytes(own["bytes"]), *(speeds(result, path.name) or ("1", "1")))
        )  # fmt: skip
    header = (f"`{EMBEDDINGS}`", "cosine, mean", "least", "size", "1×16", "1×128")
    return markdown(header, rows), facts


def budget_table(
    model: str, max_drop: str, batches: Sequence[int], lengths: Sequence[int] | None, budget: float
) -> tuple[str, dict[str, object]]:
    """What an accuracy budget comes to on both engines, beside PyTorch eager."""
    paths: list[Path] = []
    facts: dict[str, object] = {}
    accuracies: dict[str, tuple[str, str]] = {}
    for recipe in BUDGETED:
        print(f"{model}: {recipe.name}", flush=True)
        path, result = made(
            model, recipe, data=str(data(model)), reference=source(model), max_drop=max_drop,
            length=None if lengths is None else max(lengths),
        )  # fmt: skip
        paths.append(path)
        facts[recipe.name] = to_json(result)
        if result is not None and result.accuracy is not None:
            own = result.accuracy
            low, high = own.drop_lower_95 * 100, own.drop_upper_95 * 100
            accuracies[recipe.name] = f"{own.candidate:.4f}", f"{low:+.2f} … {high:+.2f} %"
    result = timed(paths, model, batches, lengths, budget)
    facts["bench"] = to_json(result)
    rows: list[tuple[object, ...]] = []
    for name in dict.fromkeys(row.name for row in result.contenders):
        first = [row for row in result.contenders if row.name == name]
        told = speeds(result, name) or [f"{row.p50_ms:.1f} ms" for row in first]
        label = "PyTorch eager" if name == REFERENCE else name
        size = human_bytes(first[0].artifact_bytes)
        rows.append((label, *accuracies.get(name, ("", "")), size, *told))
    names = [f"{row.batch}×{row.length}" if row.length else f"batch {row.batch}"
             for row in result.contenders if row.name == REFERENCE]  # fmt: skip
    header = (f"`{model}`", "metric", f"drop, 95 % (budget {max_drop})", "size", *names)
    return markdown(header, rows), facts


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantization")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of timing per model")
    given = parser.parse_args()
    parts = {
        EMBEDDINGS: embedding_table(given.budget),
        SENTIMENT: budget_table(SENTIMENT, "1%", (1, 8), (16, 128), given.budget),
        DIGITS: budget_table(DIGITS, "0.1pt", (1, 32), None, given.budget / 4),
    }
    figures = {name: facts for name, (_, facts) in parts.items()}
    report("quantization", figures, [f"\n{table}" for table, _ in parts.values()])


if __name__ == "__main__":
    main()
