"""The tables of README: accuracy, speed and size of both engines against PyTorch.

``python -m benchmarks.results [--budget SECONDS] [--rows N]``: some six minutes. For each model
one interleaved run of PyTorch, both bundles and, of the classifier, ``torch.compile`` and OpenVINO
with the precision that it chooses by itself (the bare graph); accuracy on rows that were held out.
The whole results stand in ``demo/bench`` as JSON and as pages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import edgekit
from benchmarks.measure import report
from benchmarks.models import DIGITS, SENTIMENT, compiled, data, source
from benchmarks.readme import BENCH, markdown
from edgekit.cli.console import human_bytes
from edgekit.core.errors import BudgetNotMet
from edgekit.core.measurements import Accuracy, BenchResult, ValidateResult
from edgekit.core.results import to_json
from edgekit.evaluation.contenders import REFERENCE, REFERENCE_NAMES, ReferenceSource
from edgekit.evaluation.latency import bench
from edgekit.evaluation.measuring import Length, Measuring
from edgekit.evaluation.reference import Mode
from edgekit.pipeline.provenance import versions
from edgekit.reporting import write_reports

TARGETS = ("cpu-x86", "openvino-cpu")
_LABELS = {
    REFERENCE: "PyTorch eager",
    REFERENCE_NAMES["compile"]: "`torch.compile`",
    "onnxruntime": "edgekit, ONNX Runtime",
    "openvino": "edgekit, OpenVINO",
    "model.xml": "OpenVINO as it comes",
}


@dataclass(frozen=True)
class Line:
    """A model, its workloads as (batch, tokens), and its part of the seconds of timing."""

    model: str
    workloads: tuple[tuple[int, Length | None], ...]
    share: float
    also: tuple[Mode, ...] = ()
    bare: bool = False

    def measuring(self, budget: float) -> Measuring:
        """One run over the workloads, no others."""
        lengths = dict.fromkeys(length for _, length in self.workloads if length is not None)
        return Measuring(
            batches=tuple(dict.fromkeys(batch for batch, _ in self.workloads)),
            lengths=tuple(lengths) or None,
            only=frozenset(self.workloads),
            budget=self.share * budget,
        )


LINES = (
    Line(SENTIMENT, ((1, 16), (1, 128), (8, 128)), 0.8, ("compile",), bare=True),
    Line(DIGITS, ((1, None), (32, None)), 0.2),
)


@dataclass(frozen=True)
class Found:
    """What came of a line: accuracies by bundle, and the comparison."""

    line: Line
    accuracy: Mapping[str, Accuracy]
    timing: BenchResult

    def table(self) -> str:
        """The contenders: accuracy, drop, speed at each workload, size."""
        first = next(iter(self.accuracy.values()))
        rows: list[tuple[object, ...]] = []
        for name in dict.fromkeys(row.name for row in self.timing.contenders):
            own = self.accuracy.get(name)
            value = f"{first.reference:.4f}" if name == REFERENCE else "–"
            drop = ""
            if own is not None:
                value = f"{own.candidate:.4f}"
                drop = f"{own.drop_lower_95:+.2%} … {own.drop_upper_95:+.2%}"
            row = next(one for one in self.timing.contenders if one.name == name)
            size = human_bytes(row.artifact_bytes)
            rows.append((self._label(name), value, drop, *self._speeds(name), size))
        names = [f"batch {batch}" if length is None else f"{batch}×{length}"
                 for batch, length in self.line.workloads]  # fmt: skip
        return markdown((f"`{self.line.model}`", first.metric, "drop, 95 %", *names, "size"), rows)

    def _label(self, name: str) -> str:
        """A contender with the precision it computed in."""
        facts = self.timing.protocol["facts"]
        found = facts.get(name) if isinstance(facts, Mapping) else None
        precision = found.get("precision") if isinstance(found, Mapping) else None
        return f"{_LABELS[name]}, {precision}" if precision else _LABELS[name]

    def _speeds(self, name: str) -> list[str]:
        """At each workload the reference's median, and everybody else's ratio to it."""
        found = {(one.batch, one.length): f"{one.value:.2f}× ({one.low:.2f}–{one.high:.2f})"
                 for one in self.timing.ratios if one.b == name}  # fmt: skip
        if name == REFERENCE:
            found = {(row.batch, row.length): f"{row.p50_ms:.{2 if row.p50_ms < 1 else 1}f} ms"
                     for row in self.timing.contenders
                     if row.name == name and row.p50_ms is not None}  # fmt: skip
        return [found.get(workload, "failed") for workload in self.line.workloads]

    def noise(self) -> str:
        """The run's noise card in a sentence."""
        noise = self.timing.noise
        aa = "A/A not measured"
        if noise.aa_ratio is not None:
            aa = f"A/A {noise.aa_ratio:.3f} ({noise.aa_low:.3f}–{noise.aa_high:.3f})"
        causes = f" ({'; '.join(noise.causes)})" if noise.causes else ""
        samples = next(iter(self.accuracy.values())).samples
        return f"`{self.line.model}`: {samples:,} held-out rows, {aa}, {noise.verdict}{causes}."


def measure(line: Line, budget: float, rows: int | None) -> Found:
    """The accuracy of both bundles, then everybody's speed in one run."""
    paths = [compiled(target, line.model) for target in TARGETS]
    accuracy: dict[str, Accuracy] = {}
    for path in paths:
        told(f"{line.model}: accuracy of {path.name}")
        accuracy[path.name] = accuracy_of(path, line.model, rows)
    contenders = [*paths, paths[1] / "model.xml"] if line.bare else paths
    timing = bench(
        contenders, ReferenceSource(source(line.model)), line.measuring(budget), also=line.also,
        progress=lambda text: told(f"{line.model}: {text}"),
    )  # fmt: skip
    return Found(line, accuracy, replace(timing, versions={**versions(), **timing.versions}))


def accuracy_of(path: Path, model: str, rows: int | None) -> Accuracy:
    """The accuracy of a bundle and of PyTorch on the verdict rows, whatever it is."""
    try:
        judged = edgekit.validate(
            path, reference=source(model), data=str(data(model)), limit=rows, latency=False
        )
    except BudgetNotMet as missed:
        judged = missed.result
    if not isinstance(judged, ValidateResult) or judged.accuracy is None:
        raise RuntimeError("the verdict has no accuracy although data was given")
    return judged.accuracy


def told(text: str) -> None:
    """Say what is being done."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and keep the tables for README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results")
    parser.add_argument("--budget", type=float, default=75.0, help="seconds of timing in all")
    parser.add_argument("--rows", type=int, default=2000, help="rows of each accuracy, at most")
    given = parser.parse_args(arguments)
    found = [measure(line, given.budget, given.rows) for line in LINES]
    timing = found[0].timing
    used = timing.versions
    note = (
        f"Speed: PyTorch eager's median over the contender's, with its 95 % interval."
        f" {timing.device.get('cpu')}, {timing.protocol['threads']} threads;"
        f" {' '.join(one.noise() for one in found)} torch {used['torch']}, onnxruntime"
        f" {used['onnxruntime']}, openvino {used['openvino']}. Made by"
        " `python -m benchmarks.results`."
    )
    text = "\n\n".join([*(one.table() for one in found), note])
    figures: dict[str, object] = {"markdown": text}
    for one in found:
        figures[one.line.model] = {
            "accuracy": {name: to_json(value) for name, value in one.accuracy.items()},
            "bench": to_json(one.timing),
        }
    report("results", figures, [text])
    for one in found:
        page = Path(BENCH) / f"results-{one.line.model}.html"
        write_reports(one.timing, page, None, force=True)
        for note in one.timing.notes:
            told(f"{one.line.model}: {note}")


if __name__ == "__main__":
    main()
