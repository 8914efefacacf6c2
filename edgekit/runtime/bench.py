"""``python -m edgekit.runtime.bench BUNDLE``: how fast a bundle is on this device.

Needs the base install, the bundle's engine and nothing else, so that it runs on the device itself.
Measures in several fresh processes, one after the other, and prints what ``edgekit bench`` prints
for one contender; "peak MB" is the peak of memory above the imports. With ``--worker FILE`` it is
one such process, as `edgekit.runtime.worker` says.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.core import cpu
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError, EdgekitError, MeasurementError, StepError
from edgekit.core.results import BenchResult, Noise, to_json
from edgekit.core.version import __version__
from edgekit.runtime import machine
from edgekit.runtime.conversation import Child, ChildFailed, child_environment, python_command
from edgekit.runtime.engines import find_engine
from edgekit.runtime.model import Model
from edgekit.runtime.records import Record, plan_turns
from edgekit.runtime.session import Array
from edgekit.runtime.worker import Measurable, private_stdout, serve
from edgekit.runtime.workloads import Workload, make_workloads, save_workloads

WARM_SECONDS = 3.0
OPEN_TIMEOUT = 300.0


@dataclass(frozen=True)
class BundleContender:
    """A bundle as a contender: loaded and run the way an app does it."""

    path: Path
    threads: int | None

    def imports(self) -> None:
        """See `edgekit.runtime.worker.Contender`."""
        manifest = open_bundle(self.path, check="quick").manifest
        find_engine(manifest.requires.engine).version()
        if manifest.processor is not None and manifest.processor.get("kind") == "text":
            importlib.import_module("tokenizers")

    def open(self) -> Measurable:
        """See `edgekit.runtime.worker.Contender`."""
        from edgekit.runtime import load

        return OpenBundle(load(self.path, threads=self.threads))


@dataclass(frozen=True)
class OpenBundle:
    """A loaded bundle under measurement: `Model.run`, input checks included."""

    model: Model

    def facts(self) -> Mapping[str, object]:
        """See `edgekit.runtime.worker.Measurable`."""
        return {"engine": self.model.engine, "device": self.model.device, **self.model.facts()}

    def start(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`."""
        feeds = dict(workload.feeds)
        return lambda: self.model.run(feeds)

    def prepare(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`: a bundle's options are chosen already."""
        return self.start(workload)


def measure_alone(
    bundle: Path,
    *,
    batch: int = 1,
    lengths: Sequence[int] | None = None,
    threads: int | None = None,
    budget: float = 20.0,
    processes: int = 5,
    seed: int = 0,
    timeout: float = OPEN_TIMEOUT,
) -> BenchResult:
    """One bundle measured in `processes` fresh processes, `budget` seconds of measuring in all.

    Raises:
        ConfigError, BundleError: the options or the bundle.
        MissingDependency, SessionError: the engine or device is not here.
        MeasurementError: a process crashed, hung or answered NaN.
    """
    check_plan(budget, processes, least_processes=1)
    opened = open_bundle(bundle)
    workloads = make_workloads(opened, batch=batch, lengths=lengths, seed=seed)
    count = threads or cpu.available_threads()
    record = Record(bundle.name or str(bundle))
    share = budget / (processes * len(workloads))
    before = machine.snapshot()
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        inputs = Path(folder) / "workloads.safetensors"
        save_workloads(workloads, inputs)
        command = worker_command(bundle, inputs, count)
        for round_ in range(processes):
            errors = Path(folder) / f"{round_}.stderr"
            with Child(command, stderr=errors, environment=child_environment()) as child:
                try:
                    _one_process(record, child, round_, len(workloads), share, timeout)
                except ChildFailed as failure:
                    # What is missing on this device is no fault of the measurement.
                    if failure.error is not None and not isinstance(failure.error, StepError):
                        raise failure.error from failure
                    raise MeasurementError(
                        f"Measuring {bundle} failed in process {round_ + 1} of {processes}:"
                        f" {failure}."
                    ) from failure
    shares = {record.name: record.cpu_seconds / record.wall_seconds} if count == 1 else {}
    causes = machine.noise_causes(before, machine.snapshot(), threads=count, shares=shares)
    note = record.peak_note()
    return BenchResult(
        protocol={
            "scenario": "single-stream",
            "order": "one process after the other",
            "threads": count,
            "processes": processes,
            "budget_seconds": budget,
            "seed": seed,
            "load_average_before": before.load,
            "bundles": {record.name: opened.id},
            "facts": {record.name: record.facts},
        },
        device=machine.device_card(),
        versions=versions([record]),
        contenders=tuple(
            record.row(index, workload, artifact_bytes=opened.bytes())
            for index, workload in enumerate(workloads)
        ),
        ratios=(),
        noise=Noise(None, None, None, "noisy" if causes else "quiet", causes),
        notes=() if note is None else (note,),
    )


def _one_process(
    record: Record, child: Child, round_: int, workloads: int, share: float, timeout: float
) -> None:
    # Every workload gets to be the first of some process: only that one's first call is cold.
    order = [(round_ + step) % workloads for step in range(workloads)]
    record.open(child, order[0], timeout=timeout)
    for index in order:
        record.warm(child, index, seconds=WARM_SECONDS, timeout=timeout)
        turns, seconds, least = plan_turns(share, record.typical[index])
        for _ in range(turns):
            record.measure(child, index, round_, seconds=seconds, least=least, timeout=timeout)
    record.close(child, timeout=timeout)


def worker_command(bundle: Path, inputs: Path, threads: int) -> tuple[str, ...]:
    """The command of one measuring process of a bundle."""
    return python_command(
        "edgekit.runtime.bench", str(bundle), "--worker", str(inputs), "--threads", str(threads)
    )


def check_plan(budget: float, processes: int, *, least_processes: int) -> None:
    """Raise ConfigError for a budget or a number of processes that cannot be measured with."""
    if not budget > 0:
        raise ConfigError(f"--budget should be above 0 seconds, got {budget:g}.")
    if processes < least_processes:
        raise ConfigError(
            f"--processes should be at least {least_processes}, got {processes}.",
            hint="Processes differ by themselves: one cannot tell by how much.",
        )


def versions(records: Sequence[Record]) -> dict[str, str]:
    """The versions of edgekit, Python, numpy and of the engines that ran."""
    found = {
        "edgekit": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
    }
    for record in records:
        if "engine" in record.facts and "version" in record.facts:
            found[str(record.facts["engine"])] = str(record.facts["version"])
    return found


def table(result: BenchResult) -> str:
    """The contenders as lines for a terminal; a percentile without its samples is a dash.

    "peak MB" is the peak RSS above what the imports took.
    """

    def cell(value: float | None, width: int, digits: int = 2) -> str:
        return f"{'–' if value is None else format(value, f'.{digits}f'):>{width}}"

    lines = [
        f"{'contender':<24} {'batch':>5} {'tokens':>6} {'p50 ms':>9} {'p90 ms':>9} {'p99 ms':>9}"
        f" {'per s':>9} {'load ms':>9} {'peak MB':>8}"
    ]
    for row in result.contenders:
        peak = None if row.peak_rss_bytes is None else row.peak_rss_bytes / 1e6
        lines.append(
            f"{row.name:<24.24} {row.batch:>5} {row.length if row.length else '–':>6}"
            f" {cell(row.p50_ms, 9)} {cell(row.p90_ms, 9)} {cell(row.p99_ms, 9)}"
            f" {cell(row.throughput, 9, 1)} {cell(row.load_ms, 9, 0)} {cell(peak, 8, 0)}"
        )
    lines.append("peak MB: the peak of memory above the imports.")
    lines += [f"Note: {note}" for note in result.notes]
    causes = f" ({'; '.join(result.noise.causes)})" if result.noise.causes else ""
    lines.append(f"The machine was {result.noise.verdict}{causes}.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code of DESIGN's table."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.runtime.bench", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--batch", type=int, default=1, metavar="N")
    parser.add_argument("--length", type=int, action="append", metavar="N", help="tokens")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--budget", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--processes", type=int, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker is not None:
        replies = private_stdout()
        contender = BundleContender(given.bundle, given.threads)
        return serve(contender, given.worker, sys.stdin, replies)
    try:
        result = measure_alone(
            given.bundle,
            batch=given.batch,
            lengths=given.length,
            threads=given.threads,
            budget=given.budget,
            processes=given.processes,
            seed=given.seed,
        )
    except EdgekitError as error:
        return _fail(error, as_json=given.json)
    except KeyboardInterrupt:
        return 130
    print(json.dumps(to_json(result), indent=2) if given.json else table(result))
    return 0


def _fail(error: EdgekitError, *, as_json: bool) -> int:
    if as_json:
        told = {"kind": error.kind, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": {**told, "exit_code": error.exit_code}}))
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
