"""The table of README: accuracy, speed and size of both engines against PyTorch eager.

``python -m benchmarks.results [--budget SECONDS]``. One interleaved run over 1×16, 1×128 and, in a
second one, 8×128; accuracy on the held-out movie snippets.
"""

from __future__ import annotations

import sys
from pathlib import Path

import edgekit
from benchmarks.measure import report
from benchmarks.models import compiled
from benchmarks.readme import markdown
from benchmarks.zoo import fetch
from edgekit.cli.console import human_bytes
from edgekit.core.bundle import open_bundle
from edgekit.core.results import BenchResult, ValidateResult, to_json

TARGETS = ("cpu-x86", "openvino-cpu")


def speeds(result: BenchResult) -> dict[tuple[str, str], str]:
    """(contender, workload) → its ratio to the reference."""
    return {
        (ratio.b, f"{ratio.batch}×{ratio.length}"): (
            f"{ratio.value:.2f}× ({ratio.low:.2f}–{ratio.high:.2f})"
        )
        for ratio in result.ratios
    }


def medians(result: BenchResult) -> dict[tuple[str, str], str]:
    """(contender, workload) → its median."""
    return {
        (row.name, f"{row.batch}×{row.length}"): f"{row.p50_ms:.1f} ms"
        for row in result.contenders
        if row.p50_ms is not None
    }


def main() -> None:
    """Measure, print and keep the table for README."""
    budget = float(sys.argv[sys.argv.index("--budget") + 1]) if "--budget" in sys.argv else 90.0
    model, data = fetch("minilm-sentiment"), fetch("movies") / "movies.csv"
    paths = [compiled(target) for target in TARGETS]
    verdicts: dict[Path, ValidateResult] = {
        path: edgekit.validate(path, reference=str(model), data=str(data), latency=False)
        for path in paths
    }
    runs = [
        edgekit.bench(paths, reference=str(model), budget=budget, lengths=lengths, batch=batch)
        for batch, lengths in ((1, (16, 128)), (8, (128,)))
    ]
    ratio = {key: text for run in runs for key, text in speeds(run).items()}
    median = {key: text for run in runs for key, text in medians(run).items()}
    workloads = ("1×16", "1×128", "8×128")
    first = next(iter(verdicts.values())).accuracy
    if first is None:
        raise RuntimeError("the verdict has no accuracy although data was given")
    original = next(iter(verdicts.values())).size.reference_bytes
    rows: list[tuple[object, ...]] = [
        ("PyTorch eager, float32", f"{first.reference:.4f}", "",
         *(median["pytorch", work] for work in workloads), human_bytes(original))
    ]  # fmt: skip
    for path, verdict in verdicts.items():
        accuracy = verdict.accuracy
        if accuracy is None:
            raise RuntimeError("the verdict has no accuracy although data was given")
        interval = f"{accuracy.drop_lower_95:+.4f} … {accuracy.drop_upper_95:+.4f}"
        size = human_bytes(open_bundle(path, check="quick").bytes())
        speed = [ratio[path.name, work] for work in workloads]
        rows.append((path.name, f"{accuracy.candidate:.4f}", interval, *speed, size))
    header = ("`minilm-sentiment`", first.metric, "drop, 95 %", *workloads, "size")
    device = runs[0].device
    noise = "; ".join(f"A/A {run.noise.aa_ratio:.3f}, {run.noise.verdict}" for run in runs)
    used = runs[0].versions
    note = (
        f"{first.samples:,} held-out snippets. Speed is PyTorch's median over the bundle's, with"
        f" its 95 % interval. {device.get('cpu')}, {runs[0].protocol['threads']} threads;"
        f" {noise}. torch {used['torch']}, onnxruntime {used['onnxruntime']},"
        f" openvino {used['openvino']}. Made by `python -m benchmarks.results`."
    )
    text = f"{markdown(header, rows)}\n\n{note}"
    figures = {
        "markdown": text,
        "validate": {path.name: to_json(verdict) for path, verdict in verdicts.items()},
        "bench": [to_json(run) for run in runs],
    }
    report("results", figures, [text])


if __name__ == "__main__":
    main()
