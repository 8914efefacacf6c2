"""What measuring costs: the parent's CPU time, the analysis, and validate beside bare inference.

``python -m benchmarks.measurement.overhead [--validation]``. The validation runs in a process of
its own, as a command does, and its time counts from before PyTorch is imported; ``--validation``
is that process alone, and prints its seconds as JSON.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import edgekit
from benchmarks.measurement.flipped import snippets
from benchmarks.measurement.runs import keep, side_by_side
from benchmarks.models import compiled
from benchmarks.zoo import fetch
from edgekit.evaluation import comparison
from edgekit.evaluation.reference import Reference
from edgekit.runtime.model import Model
from edgekit.runtime.records import Record, TurnSums
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import Workload

SNIPPETS = 5000


def parent_share() -> float:
    """The parent's CPU seconds per second while children run."""
    cpu, wall = time.process_time(), time.perf_counter()
    side_by_side(compiled("cpu-x86"), (), budget=20.0, processes=5, seed=0)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


def analysis() -> tuple[float, int]:
    """(seconds, peak bytes) of rows and ratios for four contenders of 10,000 samples each."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(4):
        times = {round_: list(generator.exponential(0.1, 2000) + 3) for round_ in range(5)}
        sums = [TurnSums(100, 0.3, 0.3, 0.3, 100)] * 20
        records.append(Record(str(number), times={0: times}, turns={0: dict.fromkeys(times, sums)}))
    workload = Workload(1, 16, {})
    started = time.perf_counter()
    for record in records:
        comparison.row(record, 0, workload, None, 0)
    comparison.make_ratios(records, [workload], 0)
    seconds = time.perf_counter() - started
    tracemalloc.start()
    comparison.make_ratios(records, [workload], 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak


class Stopwatch:
    """Seconds spent in the two models of a validation."""

    def __init__(self) -> None:
        self.seconds = {"reference": 0.0, "candidate": 0.0}

    def __enter__(self) -> Stopwatch:
        self._kept = (Reference.run, Model.run)
        reference, candidate = self._kept

        def timed_reference(one: Reference, feeds: Mapping[str, Array]) -> dict[str, Array]:
            started = time.perf_counter()
            outputs = reference(one, feeds)
            self.seconds["reference"] += time.perf_counter() - started
            return outputs

        def timed_candidate(one: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
            started = time.perf_counter()
            outputs = candidate(one, feeds)
            self.seconds["candidate"] += time.perf_counter() - started
            return outputs

        Reference.run, Model.run = timed_reference, timed_candidate  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Reference.run, Model.run = self._kept  # type: ignore[method-assign]


def validation() -> dict[str, float]:
    """Wall seconds of validate on 5,000 snippets, and those of the two models alone."""
    with tempfile.TemporaryDirectory(prefix="edgekit-overhead-") as folder, Stopwatch() as watch:
        data = Path(folder) / "all.csv"
        with data.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *snippets()])
        bundle, reference = compiled("cpu-x86"), str(fetch("minilm-sentiment"))
        started = time.perf_counter()
        edgekit.validate(bundle, reference=reference, data=str(data), limit=SNIPPETS, latency=False)
        wall = time.perf_counter() - started
    return {"wall": wall, **watch.seconds, "ratio": wall / sum(watch.seconds.values())}


def alone() -> dict[str, float]:
    """The same in a fresh process: what an earlier measurement has left in memory costs time."""
    command = [sys.executable, "-m", "benchmarks.measurement.overhead", "--validation"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print and keep."""
    if "--validation" in sys.argv:
        print(json.dumps(validation()))
        return
    share = parent_share()
    seconds, peak = analysis()
    validated = alone()
    print(f"the parent used {share:.2%} of a CPU while children ran")
    print(f"10,000 samples of 4 contenders: {seconds:.1f} s, {peak / 1e6:.0f} MB")
    print(f"validate on {SNIPPETS:,} snippets: {validated['ratio']:.2f} × the models' own time")
    keep(
        "overhead",
        {
            "parent_cpu_share": share,
            "analysis_seconds": seconds,
            "analysis_peak_bytes": peak,
            "validate_seconds": validated,
        },
    )


if __name__ == "__main__":
    main()
