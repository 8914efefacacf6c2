"""The table of README: accuracy, speed and size of both engines against PyTorch.

``python -m benchmarks.results [--budget SECONDS]``. One interleaved run of PyTorch eager and
compiled, both bundles, and OpenVINO with the precision that it chooses by itself (the bare graph);
accuracy on the held-out movie snippets. The whole result stands in ``demo/bench`` as JSON and as
a page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import edgekit
from benchmarks.measure import report
from benchmarks.models import compiled
from benchmarks.readme import markdown
from benchmarks.zoo import fetch
from edgekit.cli.console import human_bytes
from edgekit.core.measurements import Accuracy, BenchResult
from edgekit.core.results import to_json
from edgekit.reporting import write_reports

TARGETS = ("cpu-x86", "openvino-cpu")
WORKLOADS = ("1×16", "1×128", "8×128")


def accuracy_of(path: Path, model: Path, data: Path) -> Accuracy:
    """The accuracy of a bundle and of PyTorch on the verdict rows."""
    judged = edgekit.validate(path, reference=str(model), data=str(data), latency=False)
    if judged.accuracy is None:
        raise RuntimeError("the verdict has no accuracy although data was given")
    return judged.accuracy


def described(result: BenchResult, name: str) -> str:
    """A contender with the precision it computed in."""
    facts = result.protocol["facts"]
    found = facts.get(name) if isinstance(facts, Mapping) else None
    precision = found.get("precision") if isinstance(found, Mapping) else None
    label = {
        "pytorch": "PyTorch eager",
        "pytorch compile": "torch.compile",
        "onnxruntime": "edgekit, ONNX Runtime",
        "openvino": "edgekit, OpenVINO",
        "model.xml": "OpenVINO as it comes",
    }[name]
    return f"{label}, {precision}" if precision else label


def cells(result: BenchResult, name: str) -> list[str]:
    """Speed at each workload: the reference's median, the ratio of everybody else."""
    if name == result.contenders[0].name:
        medians = {f"{row.batch}×{row.length}": row.p50_ms for row in result.contenders
                   if row.name == name}  # fmt: skip
        return [f"{medians[work]:.1f} ms" for work in WORKLOADS]
    ratios = {f"{one.batch}×{one.length}": one for one in result.ratios if one.b == name}
    return [
        f"{ratios[work].value:.2f}× ({ratios[work].low:.2f}–{ratios[work].high:.2f})"
        for work in WORKLOADS
    ]


def main() -> None:
    """Measure, print and keep the table for README."""
    budget = float(sys.argv[sys.argv.index("--budget") + 1]) if "--budget" in sys.argv else 180.0
    model, data = fetch("minilm-sentiment"), fetch("movies") / "movies.csv"
    paths = [compiled(target) for target in TARGETS]
    judged = {path.name: accuracy_of(path, model, data) for path in paths}
    result = edgekit.bench(
        [*paths, paths[1] / "model.xml"], reference=str(model), also=["compile"], batch=[1, 8],
        lengths=[16, 128], budget=budget, progress=lambda text: print(f"  {text}", file=sys.stderr),
    )  # fmt: skip
    first = next(iter(judged.values()))
    rows: list[tuple[object, ...]] = []
    for name in dict.fromkeys(row.name for row in result.contenders):
        row = next(one for one in result.contenders if one.name == name)
        own = judged.get(name)
        value = f"{first.reference:.4f}" if name == "pytorch" else "–"
        interval = ""
        if own is not None:
            value = f"{own.candidate:.4f}"
            interval = f"{own.drop_lower_95:+.2%} … {own.drop_upper_95:+.2%}"
        size = human_bytes(row.artifact_bytes)
        rows.append((described(result, name), value, interval, *cells(result, name), size))
    header = ("`minilm-sentiment`", first.metric, "drop, 95 %", *WORKLOADS, "size")
    noise, used = result.noise, result.versions
    causes = f" ({'; '.join(noise.causes)})" if noise.causes else ""
    note = (
        f"{first.samples:,} held-out snippets. Speed: PyTorch eager's median over the contender's,"
        f" with its 95 % interval. {result.device.get('cpu')}, {result.protocol['threads']}"
        f" threads; A/A {noise.aa_ratio:.3f} ({noise.aa_low:.3f}–{noise.aa_high:.3f}), the machine"
        f" was {noise.verdict}{causes}. torch {used['torch']}, onnxruntime {used['onnxruntime']},"
        f" openvino {used['openvino']}. Made by `python -m benchmarks.results`."
    )
    text = f"{markdown(header, rows)}\n\n{note}"
    figures = {
        "markdown": text,
        "accuracy": {name: to_json(found) for name, found in judged.items()},
        "bench": to_json(result),
    }
    report("results", figures, [text])
    write_reports(result, Path("demo/bench/results.html"), None, force=True)


if __name__ == "__main__":
    main()
