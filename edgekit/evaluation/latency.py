"""The bench: bundles and the PyTorch reference measured side by side, with ratios and their noise.

One contender, the first bundle, takes part twice under two names. Its ratio to itself must come
out as "not resolved"; when it does not, the run is called noisy, and so are its other ratios.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.core import cpu
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.core.results import BenchResult, Contender, Interval, Latency, Noise, Ratio
from edgekit.evaluation.ratios import (
    RatioEstimate,
    Rounds,
    mean_ratio,
    quantile_interval,
    ratio,
)
from edgekit.evaluation.reference import declared_inputs
from edgekit.evaluation.rounds import Entrant, Plan, run_rounds
from edgekit.runtime import machine
from edgekit.runtime.bench import OPEN_TIMEOUT, WARM_SECONDS, check_plan, versions, worker_command
from edgekit.runtime.conversation import child_environment, python_command
from edgekit.runtime.records import Record
from edgekit.runtime.workloads import Workload, make_workloads, save_workloads

REFERENCE = "pytorch"
DEFAULT_BUDGET = 60.0
DEFAULT_PROCESSES = 5
_LEAST_PROCESSES = 2


@dataclass(frozen=True)
class ReferenceSource:
    """What opens the reference in a child process; see `edgekit.sources.opening.open_source`."""

    spec: str
    task: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    inputs: tuple[str, ...] = ()

    def command(self, inputs: Path, threads: int) -> tuple[str, ...]:
        """The command of one measuring process."""
        words = [self.spec, "--worker", str(inputs), "--threads", str(threads)]
        words += ["--task", self.task] if self.task else []
        words += ["--revision", self.revision] if self.revision else []
        words += ["--trust-remote-code"] if self.trust_remote_code else []
        for declaration in self.inputs:
            words += ["--input", declaration]
        return python_command("edgekit.evaluation.reference_child", *words)


def bench(
    bundles: Sequence[Path | str],
    reference: str | None = None,
    *,
    batch: int = 1,
    lengths: Sequence[int] | None = None,
    threads: int | None = None,
    budget: float = DEFAULT_BUDGET,
    processes: int = DEFAULT_PROCESSES,
    seed: int = 0,
    revision: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
    warm_seconds: float = WARM_SECONDS,
    timeout: float = OPEN_TIMEOUT,
    progress: Callable[[str], None] = lambda text: None,
) -> BenchResult:
    """Latency, throughput and memory of bundles and, if given, of their PyTorch original.

    Every contender runs on the same arrays, made by the first bundle's tokenizer, with the same
    threads; the reference with one thread where that is faster for it.

    Args:
        reference: the SOURCE in PyTorch; ``revision``, ``trust_remote_code`` and ``inputs`` are as
            for `open_source`. A factory's inputs are taken from the bundle when not given.
        lengths: tokens of the workloads, 16 and 128 by default.
        budget: seconds of timed turns in all, start-up and warm-up excluded.
        processes: fresh processes of each contender, at least 2.
        timeout: seconds after which a process that does not answer is given up.

    Raises:
        ConfigError: no bundle, options that do not fit, or bundles that take different inputs.
        BundleError: a bundle is corrupt. What fails while it is measured is in its ``error``.
    """
    if not bundles:
        raise ConfigError("bench needs at least one bundle.")
    check_plan(budget, processes, least_processes=_LEAST_PROCESSES)
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads should be at least 1, got {threads}.")
    opened = [open_bundle(path) for path in bundles]
    names = contender_names([Path(path) for path in bundles])
    workloads = make_workloads(opened[0], batch=batch, lengths=lengths, seed=seed)
    count = threads or cpu.available_threads()
    manifest = opened[0].manifest
    source = reference and ReferenceSource(
        reference,
        task=manifest.task,
        revision=revision,
        trust_remote_code=trust_remote_code,
        inputs=tuple(inputs) or declared_inputs(manifest),
    )
    twin = f"{names[0]} (again)"
    before = machine.snapshot()
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as temporary:
        folder = Path(temporary)
        entrants = _entrants(folder, opened, names, twin, workloads, count)
        if isinstance(source, ReferenceSource):
            entrants.insert(0, _reference_entrant(folder, source, workloads, count))
        plan = Plan(len(workloads), processes, budget, seed, warm_seconds, timeout)
        records = run_rounds(entrants, plan, folder=folder, progress=progress)
    after = machine.snapshot()
    listed = [records[entrant.name] for entrant in entrants if entrant.name != twin]
    sizes = dict(zip(names, [bundle.bytes() for bundle in opened], strict=True))
    return BenchResult(
        protocol={
            **_protocol(listed, plan, workloads, count, dict(zip(names, opened, strict=True))),
            "load_average_before": before.load,
        },
        device=machine.device_card(),
        versions=versions(listed),
        contenders=tuple(
            _row(record, index, workload, _artifact(record, sizes), seed)
            for index, workload in enumerate(workloads)
            for record in listed
        ),
        ratios=tuple(_ratios(listed, workloads, seed)),
        noise=_noise(records[names[0]], records[twin], before, after, count, listed, seed),
        notes=tuple(_notes(listed, opened, names)),
    )


def contender_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each bundle: its folder's, the whole path where two folders share a name."""
    short = [path.resolve().name for path in paths]
    names: list[str] = []
    for path, name in zip(paths, short, strict=True):
        unique = name if short.count(name) == 1 and name != REFERENCE else str(path)
        repeated = sum(1 for known in names if known.split(" #")[0] == unique)
        names.append(f"{unique} #{repeated + 1}" if repeated else unique)
    return names


def latency_of(result: BenchResult) -> Latency | None:
    """The first ratio of a bench as `validate` tells it; None when a contender failed."""
    if not result.ratios:
        return None
    found = result.ratios[0]
    rows = {
        row.name: row
        for row in result.contenders
        if (row.batch, row.length) == (found.batch, found.length)
    }
    before, after = rows[found.a], rows[found.b]
    if before.p50_ms is None or after.p50_ms is None:
        return None
    speedup = Interval(found.value, found.low, found.high)
    return Latency(before.p50_ms, after.p50_ms, speedup, after.p50_low_ms, after.p50_high_ms)


def _row(
    record: Record, index: int, workload: Workload, artifact_bytes: int | None, seed: int
) -> Contender:
    """The line of the result, with the interval of its median."""
    row = record.row(index, workload, artifact_bytes=artifact_bytes)
    if row.p50_ms is None:
        return row
    low, high = quantile_interval(record.rounds(index), 0.5, seed=seed)
    return replace(row, p50_low_ms=low, p50_high_ms=high)


def _entrants(
    folder: Path,
    opened: Sequence[Bundle],
    names: Sequence[str],
    twin: str,
    workloads: Sequence[Workload],
    threads: int,
) -> list[Entrant]:
    entrants: list[Entrant] = []
    first = opened[0].manifest.components["model"].inputs
    for index, (bundle, name) in enumerate(zip(opened, names, strict=True)):
        path = folder / f"{index}.safetensors"
        save_workloads([_fitted(bundle, first, workload) for workload in workloads], path)
        command = worker_command(bundle.path, path, threads)
        entrants.append(Entrant(name, command, child_environment()))
        if index == 0:
            entrants.append(Entrant(twin, command, child_environment()))
    return entrants


def _fitted(bundle: Bundle, first: Sequence[TensorSpec], workload: Workload) -> Workload:
    """The workload with the integer and float widths that this bundle takes."""
    part = bundle.manifest.components.get("model")
    specs = part.inputs if part is not None else ()
    if {spec.name for spec in specs} != {spec.name for spec in first}:
        raise ConfigError(
            f"{bundle.path} takes {', '.join(map(str, specs)) or 'several components'}; the first"
            f" bundle takes {', '.join(map(str, first))}: they cannot run on the same inputs.",
            hint="Compare bundles of one model.",
        )
    feeds = {
        spec.name: workload.feeds[spec.name].astype(np.dtype(spec.dtype), copy=False)
        for spec in specs
    }
    return Workload(workload.batch, workload.length, feeds)


def _reference_entrant(
    folder: Path, source: ReferenceSource, workloads: Sequence[Workload], threads: int
) -> Entrant:
    path = folder / "reference.safetensors"
    save_workloads(workloads, path)
    # Waiting OpenMP threads that spin starve the ones that work when a core is taken.
    environment = child_environment(
        OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="false"
    )
    return Entrant(REFERENCE, source.command(path, threads), environment)


def _artifact(record: Record, sizes: dict[str, int]) -> int | None:
    """A bundle's component and weight files; of the reference its parameters, in bytes."""
    if record.name in sizes:
        return sizes[record.name]
    found = record.facts.get("parameter_bytes")
    return found if isinstance(found, int) else None


def _ratios(records: Sequence[Record], workloads: Sequence[Workload], seed: int) -> list[Ratio]:
    """Every other contender against the first, workload by workload."""
    found: list[Ratio] = []
    base = records[0]
    for index, workload in enumerate(workloads):
        for other in records[1:]:
            if base.error is not None or other.error is not None:
                continue
            made = ratio(base.rounds(index), other.rounds(index), seed=seed)
            found.append(
                Ratio(
                    a=base.name,
                    b=other.name,
                    batch=workload.batch,
                    length=workload.length,
                    value=made.value,
                    low=made.low,
                    high=made.high,
                    resolvable=made.resolvable,
                    verdict=made.verdict,
                )
            )
    return found


def _noise(
    first: Record,
    twin: Record,
    before: machine.Snapshot,
    after: machine.Snapshot,
    threads: int,
    records: Sequence[Record],
    seed: int,
) -> Noise:
    shares = {
        record.name: record.cpu_seconds / record.wall_seconds
        for record in records
        if record.wall_seconds and threads == 1
    }
    causes = list(machine.noise_causes(before, after, threads=threads, shares=shares))
    same: RatioEstimate | None = None
    if first.error is None and twin.error is None:
        pairs: list[tuple[Rounds, Rounds]] = [
            (first.rounds(index), twin.rounds(index)) for index in sorted(first.times)
        ]
        same = mean_ratio(pairs, seed=seed)
        if same.verdict != "not resolved":
            causes.insert(0, f"{first.name} came out {same.verdict} than itself")
    elif first.error is None:
        causes.insert(0, f"the second run of {first.name} failed: {twin.error}")
    return Noise(
        aa_ratio=None if same is None else same.value,
        aa_low=None if same is None else same.low,
        aa_high=None if same is None else same.high,
        verdict="noisy" if causes else "quiet",
        causes=tuple(causes),
    )


def _protocol(
    records: Sequence[Record],
    plan: Plan,
    workloads: Sequence[Workload],
    threads: int,
    bundles: dict[str, Bundle],
) -> dict[str, object]:
    return {
        "scenario": "single-stream",
        "order": "rounds of fresh processes, interleaved turns in random order",
        "clock": "perf_counter_ns around one call of Model.run",
        "workloads": [
            {"batch": workload.batch, "length": workload.length} for workload in workloads
        ],
        "threads": threads,
        "processes": plan.processes,
        "budget_seconds": plan.budget,
        "measured_seconds": sum(record.wall_seconds for record in records),
        "seed": plan.seed,
        "interval": "95 %, hierarchical bootstrap (rounds, then samples), widened to Student's t",
        "warm_up": {
            record.name: {"runs": record.warm_runs, "flat": record.warm_flat} for record in records
        },
        "cpu_seconds_per_wall_second": {
            record.name: record.cpu_seconds / record.wall_seconds
            for record in records
            if record.wall_seconds
        },
        "bundles": {name: bundle.id for name, bundle in bundles.items()},
        "facts": {record.name: record.facts for record in records},
        # Per workload, one entry per process: the reference chooses anew in each.
        "settings": {
            record.name: {
                workloads[index].name: [
                    {key: chosen.get(key) for key in ("threads", "memory_format")}
                    for chosen in made
                ]
                for index, made in sorted(record.settings.items())
            }
            for record in records
            if record.name == REFERENCE
        },
    }


def _notes(records: Sequence[Record], bundles: Sequence[Bundle], names: Sequence[str]) -> list[str]:
    notes: list[str] = []
    for record in records:
        if record.error is not None:
            notes.append(f"{record.name} could not be measured: {record.error}.")
        elif not all(record.warm_flat):
            notes.append(
                f"{record.name} was still getting faster or slower when its warm-up ended in"
                f" {record.warm_flat.count(False)} of {len(record.warm_flat)} cases."
            )
    notes += [note for record in records if (note := record.peak_note()) is not None]
    reference = next((record for record in records if record.name == REFERENCE), None)
    weights = None if reference is None else reference.facts.get("sha256")
    for bundle, name in zip(bundles, names, strict=True):
        origin = bundle.manifest.source
        if weights is not None and origin is not None and origin.origin.sha256 != weights:
            notes.append(f"The reference has other weights than those {name} was made from.")
    return notes
