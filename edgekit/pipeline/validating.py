"""validate: the verdict on a bundle, against the original PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle, open_bundle, replace_evidence
from edgekit.core.errors import BudgetNotMet, ConfigError, MeasurementError
from edgekit.core.lazy import require
from edgekit.core.results import (
    Accuracy,
    BenchResult,
    Numerics,
    Size,
    ValidateResult,
    Verdict,
    to_json,
)
from edgekit.core.tolerance import Tolerance, tolerance_for
from edgekit.evaluation import latency as timing
from edgekit.evaluation.accuracy import evaluate
from edgekit.evaluation.numerics import distances_on
from edgekit.evaluation.reference import Reference, declared_inputs
from edgekit.evaluation.statistics import parse_drop
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import versions
from edgekit.pipeline.verdicts import Limits, combine, judge_gates, reason, remedy
from edgekit.runtime import machine
from edgekit.runtime.golden import read
from edgekit.runtime.model import Model
from edgekit.runtime.opening import open_model
from edgekit.runtime.workloads import fit_workload, make_workloads
from edgekit.sources.data import Samples, parse_columns, read_samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

DEFAULT_BUDGET = 20.0
_DEFAULT_LENGTH = 128


def validate(
    bundle: Path | str,
    *,
    reference: str,
    data: str | None = None,
    columns: str | None = None,
    metric: str | None = None,
    max_drop: str = "1%",
    min_speedup: float | None = None,
    max_latency_ms: float | None = None,
    max_size_mb: float | None = None,
    max_rss_mb: float | None = None,
    limit: int | None = None,
    latency: bool = True,
    batch: int | None = None,
    length: int | None = None,
    threads: int | None = None,
    budget: float = DEFAULT_BUDGET,
    processes: int = timing.DEFAULT_PROCESSES,
    record: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
    allow_other_reference: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> ValidateResult:
    """Judge a bundle's accuracy and latency against its original.

    With `data` the metric of the task is taken of both models on the same samples, and the 95 %
    interval of the drop decides. Without, the outputs on the golden inputs must lie within the
    tolerance of the bundle's precision. A bundle that is resolved slower than the original fails.

    Args:
        reference: the SOURCE that the bundle was made from, run in PyTorch eager float32.
        max_drop: ``1%`` of the reference's metric or ``0.5pt``, absolute.
        min_speedup, max_latency_ms, max_size_mb, max_rss_mb: gates; megabytes of 10^6 bytes.
        limit: judge so many of the verdict rows.
        latency: measure it; ``batch`` × ``length`` is the bundle's own workload by default.
        record: write the evidence into the manifest; the bundle's id stays.

    Raises:
        MissingDependency: PyTorch (for checkpoints: transformers) is not installed.
        ConfigError: options or DATA that do not fit, or a reference with other weights.
        BudgetNotMet: the verdict is not "pass"; ``result`` holds it.
        MeasurementError: a contender could not be measured.
    """
    allowed = parse_drop(max_drop)
    limits = Limits(min_speedup, max_latency_ms, max_size_mb, max_rss_mb)
    if limits.need_timing and not latency:
        raise ConfigError(
            "A gate on speed or memory needs a measurement.", hint="Leave --no-latency out."
        )
    opened = open_bundle(bundle)
    _require_reference(reference)
    from edgekit.sources.opening import open_source

    progress(f"Loading the reference {reference}")
    declared = tuple(inputs) or declared_inputs(opened.manifest)
    source = open_source(
        reference,
        task=opened.manifest.task,
        revision=revision,
        trust_remote_code=trust_remote_code,
        inputs=declared,
    )
    _check_origin(opened, source, allowed=allow_other_reference)
    samples = None if data is None else _read(opened, source, data, columns, limit, seed, progress)
    accuracy: Accuracy | None = None
    numerics: Mapping[str, Numerics]
    with open_model(opened, threads=threads) as model:
        if samples is None:
            progress("Comparing the outputs on the golden inputs")
            numerics, verdict, problem = _without_data(model, source)
        else:
            progress(f"Judging {len(samples):,} samples through both models")
            found = evaluate(
                model, source, samples, metric=metric, max_drop=allowed, seed=seed,
                progress=progress,
            )  # fmt: skip
            accuracy, numerics, verdict = found.accuracy, found.numerics, found.verdict
            problem = found.problem
            for note in found.notes:
                progress(note)
    reference_bytes = source_bytes(source)
    del source
    timed = None
    if latency:
        progress("Measuring latency, interleaved in fresh processes")
        timed = _time(
            opened, reference, batch=batch, length=length, threads=threads, budget=budget,
            processes=processes, revision=revision, trust_remote_code=trust_remote_code,
            inputs=declared, seed=seed, progress=progress,
        )  # fmt: skip
    size = Size(reference_bytes, opened.bytes(), opened.bytes() / max(1, reference_bytes))
    found_latency = None if timed is None else timing.latency_of(timed)
    gates = judge_gates(limits, found_latency, timed, size)
    result = ValidateResult(
        verdict=combine(verdict, gates),
        accuracy=accuracy,
        numerics=numerics,
        latency=found_latency,
        size=size,
        gates=gates,
        device=machine.device_card(),
        versions=versions(),
    )
    if record:
        _record(opened, result, timed)
    if result.verdict != "pass":
        raise BudgetNotMet(
            reason(result, max_drop, verdict, problem),
            hint=remedy(result, verdict),
            result=result,
        )
    return result


def _check_origin(bundle: Bundle, source: LoadedSource, *, allowed: bool) -> None:
    """The reference must be the model that the bundle comes from, by its weights."""
    known = bundle.manifest.source
    if known is None or allowed or known.origin.sha256 == source.sha256:
        return
    raise ConfigError(
        f"{source.id} has other weights (state dict {source.sha256[:12]}…) than the origin of"
        f" {bundle.path}, {known.origin.id} ({known.origin.sha256[:12]}…).",
        hint="Pass the original model, or --allow-other-reference to compare all the same.",
    )


def _read(
    bundle: Bundle,
    source: LoadedSource,
    data: str,
    columns: str | None,
    limit: int | None,
    seed: int,
    progress: Progress,
) -> Samples:
    """The verdict rows of DATA that no earlier step has seen."""
    used = {row for step in bundle.manifest.steps for row in _row_hashes(step.data)}
    samples = read_samples(
        data,
        bundle.manifest.task,
        columns=parse_columns(columns),
        labels=bundle.manifest.labels,
        problem=source.problem_type,
        inputs=[spec.name for spec in bundle.manifest.components["model"].inputs],
        role="verdict",
        limit=limit,
        seed=seed,
        exclude=used,
    )
    if samples.excluded:
        progress(f"Left out {samples.excluded} rows that earlier steps have used")
    return samples


def _require_reference(spec: str) -> None:
    """Raise MissingDependency unless what opens the reference is installed."""
    require("torch", "build")
    if ":" not in spec and not spec.endswith(".pt2"):
        require("transformers", "build")


def _without_data(
    model: Model, source: LoadedSource
) -> tuple[dict[str, Numerics], Verdict, str | None]:
    """Both models on golden and benchmark inputs; the tolerance of the precision decides.

    The text is the reason of a failure.
    """
    manifest = model.manifest
    batch, _ = fit_workload(model.bundle, 1, _DEFAULT_LENGTH)
    feeds = [workload.feeds for workload in make_workloads(model.bundle, batch=batch)]
    rules: Mapping[str, Tolerance] = {}
    if manifest.golden is not None:
        rules = manifest.golden.tolerance
        feeds.append(read(model.bundle.file(manifest.golden.file)).inputs)
    rule = tolerance_for(model.precision, rules)
    distances = distances_on(model, Reference(source), feeds)
    numerics = {name: distance.numerics() for name, distance in distances.items()}
    far = [distance.describe(name) for name, distance in distances.items()
           if not distance.within(rule)]  # fmt: skip
    return numerics, "pass" if numerics and not far else "fail", far[0] if far else None


def _row_hashes(data: Mapping[str, object]) -> list[str]:
    lists = [rows for rows in data.values() if isinstance(rows, list)]
    return [row for rows in lists for row in rows if isinstance(row, str)]


def source_bytes(source: LoadedSource) -> int:
    """The bytes of the reference's parameters and buffers as it runs, tied ones once."""
    tensors = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for tensor in source.module.state_dict().values()
    }
    return sum(tensors.values())


def _time(
    bundle: Bundle,
    reference: str,
    *,
    batch: int | None,
    length: int | None,
    threads: int | None,
    budget: float,
    processes: int,
    revision: str | None,
    trust_remote_code: bool,
    inputs: Sequence[str],
    seed: int,
    progress: Progress,
) -> BenchResult:
    """The bundle against the reference at one workload."""
    workload = bundle.manifest.workload or {}
    own_batch, own_length = workload.get("batch"), workload.get("length")
    rows, tokens = fit_workload(
        bundle,
        own_batch if isinstance(own_batch, int) else 1,
        own_length if isinstance(own_length, int) else _DEFAULT_LENGTH,
    )
    tokens = tokens if length is None else length
    result = timing.bench(
        [bundle.path],
        reference,
        batch=batch or rows,
        lengths=None if tokens is None else [tokens],
        threads=threads,
        budget=budget,
        processes=processes,
        seed=seed,
        revision=revision,
        trust_remote_code=trust_remote_code,
        inputs=inputs,
        progress=progress,
    )
    for row in result.contenders:
        if row.error is not None:
            raise MeasurementError(
                f"{row.name} could not be measured: {row.error}.",
                hint="Validate without timing with --no-latency.",
            )
    return result


def _record(bundle: Bundle, result: ValidateResult, timed: BenchResult | None) -> None:
    """Write the evidence into the manifest, which leaves the bundle's id as it is."""
    before = bundle.manifest.evidence
    evidence = {
        **before,
        "accuracy": {"verdict": result.verdict, **_plain(result.accuracy)},
        "size": _plain(result.size),
        "device": result.device,
        "versions": result.versions,
    }
    if result.latency is not None and timed is not None:
        evidence["latency"] = _plain(result.latency)
        evidence["memory"] = {"peak_rss_bytes": timed.contenders[-1].peak_rss_bytes}
    replace_evidence(bundle, evidence)


def _plain(value: object) -> dict[str, object]:
    found = to_json(value)
    return found if isinstance(found, dict) else {}
