"""What quantization gains and costs: cosine, accuracy, size and speed on both engines.

``python -m benchmarks.quantization [--only PART …] [--budget SECONDS]``: some three quarters of an
hour in all. The parts, whose tables are kept from run to run:

- ``embeddings``: `minilm` by edgekit's methods, compared with PyTorch's vectors text by text;
- ``libraries``: the same by the functions of ONNX Runtime and NNCF (see `minilm_table`);
- ``sentiment``, ``digits``: `minilm-sentiment` and `digits-cnn` within an accuracy budget;
- ``search``: how long a tight budget takes to be searched.

Within a part everything is timed in one interleaved run. Calibration sees the training split of
the snippets alone.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from benchmarks import minilm_table
from benchmarks.measure import report
from benchmarks.models import DIGITS, EMBEDDINGS, FOLDER, SENTIMENT, data, exported, source
from benchmarks.readme import figures, markdown
from benchmarks.zoo import fetch
from edgekit.cli.console import human_bytes
from edgekit.core import cpu
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BudgetNotMet, EdgekitError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.measurements import BenchResult, QuantizeResult
from edgekit.core.results import to_json
from edgekit.evaluation.contenders import REFERENCE, ReferenceSource
from edgekit.evaluation.latency import bench
from edgekit.evaluation.measuring import Length, Measuring
from edgekit.pipeline import timing
from edgekit.reporting import words
from edgekit.runtime.engines.onnxruntime import open_session

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]
# A part: its table, and what it found.
Part = tuple[str, dict[str, object]]

# Texts that cosines are taken on, and others that calibrate.
_TEXTS = 200
_CALIBRATION = 128
# Fresh processes of a contender, and the seconds each is warmed for at a workload.
_PROCESSES = 4
_WARM_SECONDS = 1.0
# A table of cosines shows how far off a way is: in its run nobody is disqualified for that.
_ANY_COSINE = tuple(
    f'tolerance.{precision}={{kind="cosine",minimum=0.0}}' for precision in ("int8", "int4")
)


@dataclass(frozen=True)
class Recipe:
    """One row of a table: what is asked of ``edgekit quantize`` (nothing: the float bundle)."""

    name: str
    engine: str
    options: Mapping[str, object] | None = None


FLOAT = Recipe("ort-fp32", "onnxruntime")
EMBEDDING_RECIPES = (
    FLOAT,
    Recipe("ort-dynamic", "onnxruntime", {"method": "dynamic"}),
    Recipe("ort-static", "onnxruntime", {"method": "static"}),
    Recipe("ort-weight-int8", "onnxruntime", {"method": "weight-only", "bits": 8}),
    Recipe("ort-weight-int4", "onnxruntime", {"method": "weight-only", "bits": 4}),
    Recipe("openvino-f32", "openvino"),
    Recipe("openvino-bf16", "openvino", {"method": "bfloat16"}),
    Recipe("openvino-dynamic", "openvino", {"method": "dynamic"}),
    Recipe("openvino-static", "openvino", {"method": "static"}),
)
SENTIMENT_RECIPES = (
    FLOAT,
    Recipe("ort-int8", "onnxruntime", {}),
    Recipe("openvino-f32", "openvino"),
    Recipe("openvino-bf16", "openvino", {"method": "bfloat16"}),
    Recipe("openvino-int8", "openvino", {"bits": 8}),
)
DIGITS_RECIPES = (
    FLOAT,
    Recipe("ort-int8", "onnxruntime", {"method": "static", "batch": 32}),
    Recipe("openvino-f32", "openvino"),
    Recipe("openvino-int8", "openvino", {"method": "static", "batch": 32}),
)


def made(
    model: str, recipe: Recipe, *, overrides: Sequence[str] = (), **options: object
) -> tuple[Path, QuantizeResult | None]:
    """The compiled bundle of a recipe, and what quantize said of it; made anew every time.

    What misses the budget, or the tolerance, is compiled all the same: the table tells how far.
    """
    print(f"{model}: {recipe.name}", flush=True)
    folder = FOLDER / "quantization" / model
    folder.mkdir(parents=True, exist_ok=True)
    bundle, result = exported(model), None
    if recipe.options is not None:
        quantized = folder / f"{recipe.name}-quantized"
        try:
            result = edgekit.quantize(
                bundle, quantized, engine=recipe.engine, force=True, allow_slower=True, keep=True,
                **{**options, **recipe.options},  # type: ignore[arg-type]
            )  # fmt: skip
        except BudgetNotMet as missed:
            if not isinstance(missed.result, QuantizeResult) or missed.result.output is None:
                raise
            result = missed.result
        bundle = quantized
    path = folder / recipe.name
    edgekit.compile(bundle, path, engine=recipe.engine, overrides=overrides, force=True)
    return path, result


def embeddings(path: Path, texts: Sequence[str]) -> Vectors:
    """One unit vector per text, by a bundle; text by text, so that nothing is padded."""
    with edgekit.load(path) as model:
        return np.stack([np.asarray(model([text])[0]) for text in texts])


def tokenized(texts: Sequence[str]) -> list[dict[str, np.ndarray[Any, np.dtype[Any]]]]:
    """The arrays of one call per text, by transformers' tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source(EMBEDDINGS))
    rows = (tokenizer(text, truncation=True, max_length=256) for text in texts)
    return [{name: np.asarray([row[name]]) for name in row} for row in rows]


def by_graph(path: Path, texts: Sequence[str]) -> Vectors:
    """The same by a bare graph."""
    rows = tokenized(texts)
    inputs = tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in rows[0])
    component = Component("onnx", (path.name,), inputs, ())
    session = open_session(path.parent, component, options={}, device="cpu", threads=None)
    try:
        return np.concatenate([next(iter(session.run(row).values())) for row in rows])
    finally:
        session.close()


def original(texts: Sequence[str]) -> Vectors:
    """The same in PyTorch."""
    from edgekit.evaluation.reference import Reference
    from edgekit.sources.opening import open_source

    run = Reference(open_source(source(EMBEDDINGS)))
    return np.concatenate([next(iter(run.run(row).values())) for row in tokenized(texts)])


def cosines(found: Vectors, wanted: Vectors) -> dict[str, object]:
    """Text by text: their mean and the least."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    each = (found * wanted).sum(axis=1) / lengths
    return {"cosine_mean": float(each.mean()), "cosine_least": float(each.min())}


def snippets(path: Path, count: int) -> list[str]:
    """Texts from all over a file."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row["text"] for row in csv.DictReader(stream)]
    return rows[:: max(1, len(rows) // count)][:count]


def training() -> list[str]:
    """The snippets that calibrate."""
    return snippets(fetch("movies") / "movies-train.csv", _CALIBRATION)


def calibrating(path: Path) -> Path:
    """The same as DATA."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["text"], *([text] for text in training())])
    return path


def timed(
    paths: Sequence[Path], workloads: Sequence[tuple[int, Length | None]], budget: float,
    reference: str | None = None,
) -> BenchResult:  # fmt: skip
    """All bundles in one run, beside PyTorch where there is a `reference`."""
    lengths = dict.fromkeys(length for _, length in workloads if length is not None)
    measuring = Measuring(
        batches=tuple(dict.fromkeys(batch for batch, _ in workloads)),
        lengths=tuple(lengths) or None, only=frozenset(workloads),
        budget=budget, processes=_PROCESSES, warm_seconds=_WARM_SECONDS,
    )  # fmt: skip
    print(f"  timing {', '.join(path.name for path in paths)}", flush=True)
    return bench(paths, None if reference is None else ReferenceSource(reference), measuring)


def speeds(
    result: BenchResult, name: str, workloads: Sequence[tuple[int, Length | None]]
) -> list[str]:
    """At each workload a contender's ratio to the first one, and of that one its median."""
    found = {(one.batch, one.length): f"{one.value:.2f}× ({one.low:.2f}–{one.high:.2f})"
             for one in result.ratios if one.b == name}  # fmt: skip
    if name == result.contenders[0].name:
        found = {(row.batch, row.length): f"{row.p50_ms:.{2 if row.p50_ms < 1 else 1}f} ms"
                 for row in result.contenders
                 if row.name == name and row.p50_ms is not None}  # fmt: skip
    return [found.get(workload, "failed") for workload in workloads]


def noise(result: BenchResult) -> str:
    """The run's noise card in a sentence."""
    found = result.noise
    aa = "A/A not measured"
    if found.aa_ratio is not None:
        aa = f"A/A {found.aa_ratio:.3f} ({found.aa_low:.3f}–{found.aa_high:.3f})"
    causes = f" ({'; '.join(found.causes)})" if found.causes else ""
    return f"{result.device.get('cpu')}, {aa}, {found.verdict}{causes}."


_TOKENS: tuple[tuple[int, Length | None], ...] = ((1, 16), (1, 128))


def vectors_table(
    label: str, paths: Mapping[str, Path], facts: dict[str, object], budget: float
) -> Part:
    """The rows whose cosines are in `facts`, timed against the first of them."""
    result = timed([*paths.values()], _TOKENS, budget)
    facts["bench"] = to_json(result)
    rows: list[tuple[object, ...]] = []
    for name, path in paths.items():
        own = facts[name]
        assert isinstance(own, dict)
        mean, least = f"{own['cosine_mean']:.4f}", f"{own['cosine_least']:.4f}"
        size = human_bytes(own["bytes"])
        rows.append((name, mean, least, size, *speeds(result, path.name, _TOKENS)))
    for name, own in facts.items():
        if isinstance(own, dict) and "failed" in own:
            rows.append((name, "failed", "", "", "", ""))
    header = (label, "cosine, mean", "least", "size", "1×16", "1×128")
    return f"{markdown(header, rows)}\n\n{noise(result)}", facts


def embeddings_part(budget: float) -> Part:
    """Cosine, size and speed of the sentence embeddings by every method of edgekit."""
    texts = snippets(data(SENTIMENT), _TEXTS)
    wanted = original(texts)
    calibration = str(calibrating(FOLDER / "quantization" / "calibration.csv"))
    paths: dict[str, Path] = {}
    facts: dict[str, object] = {}
    for recipe in EMBEDDING_RECIPES:
        try:
            path, _ = made(EMBEDDINGS, recipe, overrides=_ANY_COSINE, calibration=calibration)
        except EdgekitError as error:
            facts[recipe.name] = {"failed": error.message}
            continue
        paths[recipe.name] = path
        size = open_bundle(path, check="quick").bytes()
        facts[recipe.name] = {**cosines(embeddings(path, texts), wanted), "bytes": size}
    return vectors_table(f"`{EMBEDDINGS}`, edgekit", paths, facts, budget)


def libraries_part(budget: float) -> Part:
    """The same by the libraries' own functions, against edgekit's float bundle."""
    texts = snippets(data(SENTIMENT), _TEXTS)
    wanted = original(texts)
    first, _ = made(EMBEDDINGS, FLOAT, overrides=_ANY_COSINE)
    paths = {FLOAT.name: first}
    size = open_bundle(first, check="quick").bytes()
    facts: dict[str, object] = {
        FLOAT.name: {**cosines(embeddings(first, texts), wanted), "bytes": size}
    }
    rows = tokenized(training())
    folder = FOLDER / "quantization" / "libraries"
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in minilm_table.graphs(folder, rows).items():
        if isinstance(path, Exception):
            facts[name] = {"failed": str(path)}
            continue
        try:
            own = cosines(by_graph(path, texts), wanted)
        except EdgekitError as error:
            facts[name] = {"failed": error.message}
            continue
        paths[name] = path
        facts[name] = {**own, "bytes": path.stat().st_size}
    return vectors_table(f"`{EMBEDDINGS}`, libraries", paths, facts, budget)


def budget_part(
    model: str,
    recipes: Sequence[Recipe],
    max_drop: str,
    workloads: Sequence[tuple[int, Length | None]],
    budget: float,
    *,
    beside_pytorch: bool,
) -> Part:
    """What an accuracy budget comes to on both engines; the speeds are against the first row."""
    lengths = [length for _, length in workloads if isinstance(length, int)]
    paths: list[Path] = []
    facts: dict[str, object] = {}
    accuracies: dict[str, tuple[str, str]] = {}
    for recipe in recipes:
        try:
            path, result = made(
                model, recipe, data=str(data(model)), reference=source(model), max_drop=max_drop,
                length=max(lengths, default=None),
            )  # fmt: skip
        except EdgekitError as error:
            facts[recipe.name] = {"failed": error.message}
            continue
        paths.append(path)
        facts[recipe.name] = to_json(result)
        if result is not None and result.accuracy is not None:
            own = result.accuracy
            accuracies[recipe.name] = f"{own.candidate:.4f}", f"{result.verdict}: {words.drop(own)}"
    result = timed(paths, workloads, budget, source(model) if beside_pytorch else None)
    facts["bench"] = to_json(result)
    rows: list[tuple[object, ...]] = []
    for name in dict.fromkeys(row.name for row in result.contenders):
        first = next(row for row in result.contenders if row.name == name)
        label = "PyTorch eager" if name == REFERENCE else name
        size = human_bytes(first.artifact_bytes)
        accuracy = accuracies.get(name, ("", ""))
        rows.append((label, *accuracy, size, *speeds(result, name, workloads)))
    for name, told in facts.items():
        if isinstance(told, dict) and "failed" in told:
            rows.append((name, "failed", *[""] * (2 + len(workloads))))
    names = [words.workload(batch, length) for batch, length in workloads]
    header = (f"`{model}`", "metric", f"drop (budget {max_drop})", "size", *names)
    return f"{markdown(header, rows)}\n\n{noise(result)}", facts


def sentiment_part(budget: float) -> Part:
    """A classifier of texts, beside PyTorch eager."""
    workloads = ((1, 16), (1, 128), (8, 128))
    return budget_part(
        SENTIMENT, SENTIMENT_RECIPES, "1%", workloads, budget, beside_pytorch=True
    )  # fmt: skip


def digits_part(budget: float) -> Part:
    """A network of convolutions, against its own float bundle."""
    workloads = ((1, None), (32, None))
    return budget_part(
        DIGITS, DIGITS_RECIPES, "0.1pt", workloads, budget / 4, beside_pytorch=False
    )  # fmt: skip


def search_part(budget: float) -> Part:
    """How long a budget takes that not everything quantized may meet, and how many evaluations."""
    rows: list[tuple[object, ...]] = []
    facts: dict[str, object] = {}
    for recipe in (SENTIMENT_RECIPES[1], SENTIMENT_RECIPES[-1]):
        searched = Recipe(f"{recipe.name}-search", recipe.engine, recipe.options)
        _, result = made(
            SENTIMENT, searched, data=str(data(SENTIMENT)), reference=source(SENTIMENT),
            max_drop="0.5pt",
        )  # fmt: skip
        assert result is not None
        facts[recipe.name] = to_json(result)
        drop = "" if result.accuracy is None else words.drop(result.accuracy)
        minutes = f"{result.seconds / 60:.1f}"
        rows.append((recipe.name, result.verdict, drop, result.evaluations, minutes))
    header = (f"`{SENTIMENT}`, budget 0.5pt", "verdict", "drop", "evaluations", "minutes")
    where = f"{cpu.cpu_model()}, {cpu.available_threads()} threads."
    return f"{markdown(header, rows)}\n\n{where}", facts


PARTS: Mapping[str, Callable[[float], Part]] = {
    "embeddings": embeddings_part,
    "libraries": libraries_part,
    "sentiment": sentiment_part,
    "digits": digits_part,
    "search": search_part,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantization")
    parser.add_argument("--only", action="append", choices=[*PARTS], help="a part; repeatable")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of timing per part")
    given = parser.parse_args(arguments)
    whole = timing._PAIR_PROCESSES, timing._PAIR_SECONDS
    for name in given.only or PARTS:
        # What quantize times by itself is timed again in a table's own run, with all the others.
        effort = whole if name == "search" else (2, 2.0)
        timing._PAIR_PROCESSES, timing._PAIR_SECONDS = effort
        table, facts = PARTS[name](given.budget)
        # Kept after each: a later one may fail.
        parts = {**figures("quantization").get("parts", {}), name: {"table": table, **facts}}
        # README shows the search apart: it is no table of ratios.
        tables = [str(parts[one]["table"]) for one in PARTS if one in parts and one != "search"]
        told = "Speed: the median of a table's first row over the row's own, with its 95 % interval"
        tables.append(f"{told}. Made by `python -m benchmarks.quantization`.")
        report("quantization", {"markdown": "\n\n".join(tables), "parts": parts}, [table])


if __name__ == "__main__":
    main()
