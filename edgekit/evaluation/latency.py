"""The bench: bundles and the PyTorch reference measured side by side, with ratios and their noise.

One contender, the first on disk, takes part twice under two names. Its ratio to itself must come
out as "not resolved"; when it does not, the run is called noisy, and so are its other ratios.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgekit.core import cpu
from edgekit.core.errors import ConfigError
from edgekit.core.measurements import BenchResult, Interval, Latency, Probe
from edgekit.evaluation import comparison
from edgekit.evaluation.attached import read_attached
from edgekit.evaluation.contenders import (
    REFERENCE_NAMES,
    Artifact,
    ReferenceSource,
    artifact_entrant,
    free_name,
    open_artifacts,
    plan_workloads,
    reference_entrants,
    write_inputs,
)
from edgekit.evaluation.measuring import Measuring
from edgekit.evaluation.outputs import Known, OutputCheck
from edgekit.evaluation.probes import Flip, flips, probe, proposals
from edgekit.evaluation.reference import Mode
from edgekit.evaluation.rounds import Entrant, Plan, Records, run_rounds
from edgekit.runtime import machine
from edgekit.runtime.bench import versions
from edgekit.runtime.generation.requests import generates
from edgekit.runtime.records import Record
from edgekit.runtime.workloads import Workload

# Processes of all contenders live side by side. From so many bytes on a second copy of the first
# one would take memory that the machine may not have: it is that of the smallest one then.
_LARGE = 256_000_000


@dataclass(frozen=True)
class _Field:
    """All who take part: in the order of the table, with the twin and the probes beside.

    ``twin`` is the name of the second copy of the artifact that is ``twinned``.
    """

    artifacts: tuple[Artifact, ...]
    twinned: Artifact
    twin: str
    modes: tuple[Mode, ...]
    flips: tuple[Flip, ...]

    @property
    def first(self) -> Artifact:
        return self.artifacts[0]

    def known(self) -> dict[str, Known]:
        """What the check of the outputs knows beforehand, the base first."""
        known: dict[str, Known] = {}
        for artifact in self.artifacts:
            known[artifact.name] = _known(artifact)
        known[self.twin] = known[self.twinned.name]
        for flip in self.flips:
            known[flip.name] = known[flip.contender]
        return known


def bench(
    contenders: Sequence[Path | str],
    reference: ReferenceSource | None = None,
    measuring: Measuring | None = None,
    *,
    also: Sequence[Mode] = (),
    probes: bool = False,
    attach: Sequence[Path | str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> BenchResult:
    """Latency, throughput and memory of contenders and, if given, of their PyTorch original.

    Every contender runs on the same arrays, made by the first bundle's tokenizer, with the same
    threads; the reference with one thread where that is faster for it, and, unless a number is
    asked for, a bundle with fewer where compiling has found them to be faster.

    Args:
        contenders: bundles, and bare ``.onnx`` or OpenVINO ``.xml`` graphs.
        reference: the SOURCE in PyTorch, its task and inputs those of the first bundle unless
            given.
        also: PyTorch beside the reference, through ``torch.compile`` or in bfloat16.
        probes: try runtime options of the bundles in the same run.
        attach: results measured elsewhere, shown beside.

    Raises:
        ConfigError: no contender, options that do not fit, or contenders of different inputs.
        BundleError: a bundle is corrupt. What fails while it is measured is in its ``error``.
    """
    asked = measuring or Measuring()
    asked.check()
    if also and reference is None:
        raise ConfigError(
            f"--also {also[0]} runs the original model, which is not given.",
            hint="Pass --reference SOURCE.",
        )
    if also and reference is not None and reference.mode == "imported":
        raise ConfigError(
            f"--also {also[0]} runs a PyTorch model, and {reference.spec} is ONNX.",
            hint="Leave --also out.",
        )
    attached = tuple(read_attached(path) for path in attach)
    artifacts = open_artifacts(contenders)
    _check_requests(artifacts, reference, also)
    workloads = plan_workloads(artifacts, asked)
    threads = asked.threads or cpu.available_threads()
    modes: list[Mode] = []
    if reference is not None:
        modes += [reference.mode, *dict.fromkeys(mode for mode in also if mode != "eager")]
    tries = _flips(artifacts, threads) if probes else []
    field = _make_field(artifacts, modes, tries)
    before = machine.snapshot()
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as temporary:
        folder = Path(temporary)
        entrants = _entrants(
            folder, field, reference, workloads, threads, own_threads=asked.threads is None
        )
        plan = Plan(
            len(workloads), asked.processes, asked.budget, asked.seed, asked.warm_seconds,
            asked.timeout, asked.scenario,
            generating=any(one.new_tokens is not None for one in workloads),
        )  # fmt: skip
        listed_names = _listed(entrants, field)
        known = {name: Known() for name in listed_names} | field.known()
        check = OutputCheck(_task(artifacts), known)
        records = run_rounds(
            entrants,
            plan,
            folder=folder,
            check=check,
            enough=lambda found: _enough(found, listed_names, field, len(workloads), asked),
            progress=progress,
        )
    after = machine.snapshot()
    listed = [records[name] for name in listed_names]
    tried = _probes(records, field, workloads, asked.seed)
    first, twin = records[field.twinned.name], records[field.twin]
    sizes = {artifact.name: artifact.bytes for artifact in artifacts}
    noise = comparison.judge_noise(first, twin, before, after, threads, listed, asked.seed)
    return BenchResult(
        protocol={
            **comparison.describe_protocol(
                listed, plan, workloads,
                threads=threads, precision=asked.precision, artifacts=artifacts,
                beside=[record for name, record in records.items() if name not in listed_names],
            ),
            "data": asked.data,
            "load_average_before": before.load,
        },
        device=machine.device_card(),
        versions=versions(listed),
        contenders=tuple(
            comparison.row(
                record, index, workload, comparison.artifact_bytes(record, sizes), asked.seed,
                threads=threads,
            )
            for index, workload in enumerate(workloads)
            for record in listed
        ),
        ratios=tuple(comparison.make_ratios(listed, workloads, asked.seed)),
        noise=noise,
        notes=(
            *comparison.make_notes(listed, workloads, artifacts),
            *check.notes,
            *_probe_notes(records, field, tried, noisy=noise.verdict == "noisy"),
            *(
                f"{one.file} was measured elsewhere: no ratio is formed with it."
                for one in attached
            ),
        ),
        probes=tried,
        attached=attached,
        token_ratios=tuple(comparison.make_token_ratios(listed, workloads, asked.seed)),
    )  # fmt: skip


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


def _check_requests(
    artifacts: Sequence[Artifact], reference: ReferenceSource | None, also: Sequence[Mode]
) -> None:
    """Raise ConfigError for a reference that cannot be asked for whole answers."""
    first = next((one.bundle for one in artifacts if one.bundle is not None), None)
    if first is None or not generates(first.manifest):
        return
    if reference is not None and reference.mode == "imported":
        raise ConfigError(
            f"{first.path} is asked for whole answers, and {reference.spec} is no PyTorch"
            " model that could be asked for the same.",
            hint="Give the PyTorch model that the bundle was made of.",
        )
    if "compile" in also:
        raise ConfigError(
            f"--also compile is for single inferences; {first.path} is asked for whole answers.",
            hint="Leave it out; --also bfloat16 works.",
        )


def _known(artifact: Artifact) -> Known:
    if artifact.bundle is None:
        return Known()
    manifest = artifact.bundle.manifest
    return Known(
        weights=None if manifest.source is None else manifest.source.sha256,
        on_data=manifest.judged_on_data,
        tolerances={} if manifest.golden is None else manifest.golden.tolerance,
        components=manifest.components,
    )


def _task(artifacts: Sequence[Artifact]) -> str:
    bundles = (one.bundle for one in artifacts)
    return next((one.manifest.task for one in bundles if one is not None), "custom")


def _flips(artifacts: Sequence[Artifact], threads: int) -> list[Flip]:
    return [
        flip
        for artifact in artifacts
        if artifact.bundle is not None
        for flip in flips(artifact.name, artifact.bundle, threads=threads)
    ]


def _twinned(artifacts: Sequence[Artifact]) -> Artifact:
    """The one that is measured twice."""
    large = artifacts[0].bytes >= _LARGE
    return min(artifacts, key=lambda one: one.bytes) if large else artifacts[0]


def _make_field(
    artifacts: Sequence[Artifact], modes: Sequence[Mode], tries: Sequence[Flip]
) -> _Field:
    """All under names of their own, those that stand beside the contenders included."""
    taken = [*REFERENCE_NAMES.values(), *(artifact.name for artifact in artifacts)]
    twinned = _twinned(artifacts)
    twin = free_name(f"{twinned.name} (again)", taken)
    taken.append(twin)
    named: list[Flip] = []
    for flip in tries:
        named.append(replace(flip, called=free_name(flip.name, taken)))
        taken.append(named[-1].name)
    return _Field(tuple(artifacts), twinned, twin, tuple(modes), tuple(named))


def _entrants(
    folder: Path,
    field: _Field,
    reference: ReferenceSource | None,
    workloads: Sequence[Workload],
    threads: int,
    *,
    own_threads: bool,
) -> list[Entrant]:
    """The reference and its like, the contenders, the twin of one and the probes."""
    entrants: list[Entrant] = []
    make = partial(artifact_entrant, own_threads=own_threads)
    if reference is not None:
        first = next((one.bundle for one in field.artifacts if one.bundle is not None), None)
        source = reference if first is None else reference.of(first)
        entrants += reference_entrants(source, field.modes, workloads, folder, threads)
    for number, artifact in enumerate(field.artifacts):
        path = folder / f"{number}.safetensors"
        write_inputs(artifact, workloads, field.first.inputs, path)
        entrants.append(make(artifact, artifact.name, path, threads))
        if artifact is field.twinned:
            entrants.append(make(artifact, field.twin, path, threads))
        entrants += [
            make(artifact, flip.name, path, threads, flip.options)
            for flip in field.flips
            if flip.contender == artifact.name
        ]
    return entrants


def _listed(entrants: Sequence[Entrant], field: _Field) -> list[str]:
    """Who has a row of its own; the first of them is what ratios are against."""
    beside = {field.twin, *(flip.name for flip in field.flips)}
    return [entrant.name for entrant in entrants if entrant.name not in beside]


def _enough(
    records: Records, listed: Sequence[str], field: _Field, workloads: int, asked: Measuring
) -> bool:
    """Whether all ratios are as precise as was asked for; of one contender, that to itself."""
    pairs = [(listed[0], name) for name in listed[1:]] or [(field.twinned.name, field.twin)]
    pairs += [(flip.contender, flip.name) for flip in field.flips]
    return comparison.precise(
        [(records[a], records[b]) for a, b in pairs],
        workloads,
        precision=asked.precision,
        seed=asked.seed,
    )


def _probes(
    records: Mapping[str, Record], field: _Field, workloads: Sequence[Workload], seed: int
) -> tuple[Probe, ...]:
    return tuple(
        probe(flip, workload, comparison.speed_ratio(plain, changed, index, seed=seed))
        for flip in field.flips
        for plain, changed in [(records[flip.contender], records[flip.name])]
        if plain.error is None and changed.error is None
        for index, workload in enumerate(workloads)
    )


def _probe_notes(
    records: Mapping[str, Record], field: _Field, tried: Sequence[Probe], *, noisy: bool
) -> list[str]:
    bundles = {one.name: one.bundle for one in field.artifacts if one.bundle is not None}
    failed = [
        f"{flip.option} was tried on {flip.contender} and failed: {error.rstrip('.')}."
        for flip in field.flips
        if (error := records[flip.name].error) is not None and records[flip.contender].error is None
    ]
    if noisy and tried:
        return [*failed, "The machine was noisy: none of the options tried is proposed."]
    return failed + proposals(field.flips, tried, bundles)
