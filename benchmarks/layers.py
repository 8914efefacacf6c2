"""What `smollm2` loses and gains without some of its layers: perplexity and tokens per second.

A part of ``python -m benchmarks.pruning`` (``--only smollm2``), half an hour by itself. 2, 4 and 6
of 30 layers go by block influence, the rest is mended by least squares on texts of the Brown
corpus, and judged on others of them. The original is timed on both engines first; then all four on
the engine that was faster, in rounds of one run.
"""

from __future__ import annotations

import csv
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from benchmarks.generation import NEW, make_bundles, prompt_of, question
from benchmarks.measure import Times, compare, median
from benchmarks.models import SMOLLM2, data, source
from benchmarks.processes import close, started, turns
from edgekit.core.errors import BudgetNotMet
from edgekit.core.pruned import PruneResult
from edgekit.core.results import to_json

GONE = (2, 4, 6)
ROUNDS = 12
_LAYERS = 30
_PASSAGES = 900
_ORIGINAL = "all layers"


def rows() -> list[dict[str, Any]]:
    """A row for the original and for each cut, as `benchmarks.pruning` keeps them."""
    with tempfile.TemporaryDirectory(prefix="edgekit-layers-") as name:
        folder = Path(name)
        paths = make_bundles(Path(source(SMOLLM2)), folder, ["f32"])
        times = tokens(paths, 4)
        engine = min(times, key=lambda one: median(times, one))
        print(f"{engine} is the faster: {_speeds(times)}", flush=True)
        texts = _texts(folder / "texts.csv")
        cuts = {count: _cut(count, texts, folder / f"cut-{count}") for count in GONE}
        timed = {_ORIGINAL: paths[engine]}
        for count in GONE:
            exported = edgekit.export(str(folder / f"cut-{count}"), folder / f"bundle-{count}")
            timed[str(count)] = _on(engine, exported.output, folder / f"engine-{count}")
        times = tokens(timed, ROUNDS)
    whole = next(iter(cuts.values()))
    made = [_row(f"all {len(whole.layers)} layers on {engine}", None, whole, times, _ORIGINAL)]
    for count, found in cuts.items():
        how = f"{count} of {len(found.layers)} layers gone, least squares"
        made.append(_row(how, found, found, times, str(count)))
    return made


def tokens(paths: Mapping[str, Path], rounds: int) -> Times:
    """Milliseconds of the steps after the first token, of bundles asked in turns."""
    order = random.Random(0)
    times: Times = {name: [] for name in paths}
    prompt = prompt_of(Path(source(SMOLLM2)))
    wanted = {name: ("ours", str(path)) for name, path in paths.items()}
    contenders = started("benchmarks.generation", wanted, question(prompt, 8), optional=())
    try:
        for _ in range(rounds):
            for name, answer in turns(contenders, order, question(prompt, NEW)).items():
                times[name].append(np.array(answer["steps"]))
    finally:
        close(contenders)
    return times


def _on(engine: str, exported: Path, path: Path) -> Path:
    """An exported bundle as the engine runs it in float32."""
    if engine.startswith("ONNX"):
        return exported
    exact = ["options.openvino.precision_hint=f32"]
    edgekit.compile(exported, path, target="openvino-cpu", overrides=exact)
    return path


def _texts(path: Path) -> Path:
    """Some of the passages, from all genres: judging takes a second each."""
    with data(SMOLLM2).open(encoding="utf-8", newline="") as whole:
        header, *found = csv.reader(whole)
    with path.open("w", encoding="utf-8", newline="") as some:
        csv.writer(some).writerows([header, *found[:: max(1, len(found) // _PASSAGES)]])
    return path


def _cut(count: int, texts: Path, output: Path) -> PruneResult:
    """The model without so many layers, whatever that costs; what it costs is in the result."""
    print(f"Without {count} layers", flush=True)
    try:
        return edgekit.prune(
            source(SMOLLM2), output, structures=["layers"], ratio=_ratio(count),
            data=str(texts), recover_steps=0, keep=True, max_drop="1000%", progress=print,
        )  # fmt: skip
    except BudgetNotMet as missed:
        if not isinstance(missed.result, PruneResult):
            raise
        return missed.result


def _ratio(count: int) -> float:
    """A share of all layers that so many of them are needed for, and no more."""
    return (count - 0.5) / _LAYERS


def _row(
    how: str, cut: PruneResult | None, judged: PruneResult, times: Times, name: str
) -> dict[str, Any]:
    """What a row of the table is made of; without a cut the original's."""
    speed = compare(times, _ORIGINAL, name)
    accuracy: Any = to_json(judged.accuracy)
    if cut is None and accuracy is not None:
        accuracy |= {"candidate": accuracy["reference"], "drop": 0.0}
    return {
        "model": SMOLLM2,
        "how": f"{how}: {1e3 / median(times, name):.1f} tokens/s",
        "parameters": 0.0 if cut is None else 1 - cut.parameters.after / cut.parameters.before,
        "flops": 0.0 if cut is None else 1 - cut.flops.after / cut.flops.before,
        "speed": None
        if cut is None
        else {"value": speed.value, "low": speed.low, "high": speed.high},
        "predicted": None,
        "accuracy": accuracy,
        "seconds": None if cut is None else cut.seconds,
    }


def _speeds(times: Times) -> str:
    names: Sequence[str] = sorted(times)
    return ", ".join(f"{name} {1e3 / median(times, name):.1f} tokens/s" for name in names)
