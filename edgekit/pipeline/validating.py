"""validate: the verdict on a bundle, against the original PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle, open_bundle, replace_evidence
from edgekit.core.errors import BudgetNotMet, ConfigError, MeasurementError
from edgekit.core.results import (
    Accuracy,
    BenchResult,
    Gate,
    Latency,
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


@dataclass(frozen=True)
class Limits:
    """The gates that a person set; None for those that were not."""

    min_speedup: float | None = None
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    max_rss_mb: float | None = None

    @property
    def need_timing(self) -> bool:
        """Whether a gate cannot be judged without measuring."""
        return (self.min_speedup, self.max_latency_ms, self.max_rss_mb) != (None, None, None)


def validate(
    bundle: Path | str,
    *,
    reference: str,
    data: str | None = None,
    columns: str | None = None,
    metric: str | None = None,
    max_drop: str = "1%",
    limits: Limits = Limits(),
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
        limit: judge so many of the verdict rows.
        latency: measure it; ``batch`` × ``length`` is the bundle's own workload by default.
        record: write the evidence into the manifest; the bundle's id stays.

    Raises:
        ConfigError: options or DATA that do not fit, or a reference with other weights.
        BudgetNotMet: the verdict is not "pass"; ``result`` holds it.
        MeasurementError: a contender could not be measured.
    """
    from edgekit.sources.opening import open_source

    allowed = parse_drop(max_drop)
    if limits.need_timing and not latency:
        raise ConfigError(
            "A gate on speed or memory needs a measurement.", hint="Leave --no-latency out."
        )
    opened = open_bundle(bundle)
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
            numerics, verdict = _without_data(model, source)
        else:
            progress(f"Judging {len(samples):,} samples through both models")
            found = evaluate(
                model, source, samples, metric=metric, max_drop=allowed, seed=seed,
                progress=progress,
            )  # fmt: skip
            accuracy, numerics, verdict = found.accuracy, found.numerics, found.verdict
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
    gates = _gates(limits, found_latency, timed, size)
    result = ValidateResult(
        verdict=_combine(verdict, gates),
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
            _reason(result, max_drop),
            hint=_remedy(result),
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
    for note in samples.notes:
        progress(note)
    if samples.excluded:
        progress(f"Left out {samples.excluded} rows that earlier steps have used")
    return samples


def _without_data(model: Model, source: LoadedSource) -> tuple[dict[str, Numerics], Verdict]:
    """Both models on golden and benchmark inputs; the tolerance of the precision decides."""
    manifest = model.manifest
    feeds = [workload.feeds for workload in make_workloads(model.bundle)]
    rules: Mapping[str, Tolerance] = {}
    if manifest.golden is not None:
        rules = manifest.golden.tolerance
        feeds.append(read(model.bundle.file(manifest.golden.file)).inputs)
    rule = tolerance_for(model.precision, rules)
    numerics: dict[str, Numerics] = {}
    within = True
    for name, distance in distances_on(model, Reference(source), feeds).items():
        found = distance.numerics()
        numerics[name] = found
        within = within and rule.accepts(
            max_abs=found.max_abs, max_reference=distance.max_reference, cosine=found.cosine
        )
    return numerics, "pass" if within and numerics else "fail"


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


def _gates(
    limits: Limits, latency: Latency | None, timed: BenchResult | None, size: Size
) -> tuple[Gate, ...]:
    """Each limit against the bad end of what was measured; None where the run cannot tell."""
    gates: list[Gate] = []
    noisy = timed is not None and timed.noise.verdict == "noisy"
    if latency is not None:
        speed = latency.speedup
        # Without a limit of one's own: a bundle must not be slower than what it replaces.
        least = 1.0 if limits.min_speedup is None else limits.min_speedup
        passed: bool | None = speed.low >= least or None
        if speed.high < least:
            passed = False
        if limits.min_speedup is None and passed is None:
            passed = True
        elif noisy and limits.min_speedup is not None:
            passed = None
        name = "not_slower" if limits.min_speedup is None else "min_speedup"
        gates.append(Gate(name, least, speed.value, passed))
    if limits.max_latency_ms is not None and latency is not None:
        within = latency.candidate_ms <= limits.max_latency_ms
        gates.append(
            Gate("max_latency_ms", limits.max_latency_ms, latency.candidate_ms,
                 None if noisy else within)
        )  # fmt: skip
    if limits.max_size_mb is not None:
        megabytes = size.candidate_bytes / 1e6
        gates.append(
            Gate("max_size_mb", limits.max_size_mb, megabytes, megabytes <= limits.max_size_mb)
        )
    if limits.max_rss_mb is not None and timed is not None:
        peak = timed.contenders[-1].peak_rss_bytes
        value = None if peak is None else peak / 1e6
        held = None if value is None else value <= limits.max_rss_mb
        gates.append(Gate("max_rss_mb", limits.max_rss_mb, value, held))
    return tuple(gates)


def _combine(verdict: Verdict, gates: Sequence[Gate]) -> Verdict:
    """The worst of all: a failure, then what could not be decided."""
    if verdict == "fail" or any(gate.passed is False for gate in gates):
        return "fail"
    if verdict == "inconclusive" or any(gate.passed is None for gate in gates):
        return "inconclusive"
    return "pass"


def _reason(result: ValidateResult, max_drop: str) -> str:
    """The sentence that names what was missed, with its values."""
    for gate in result.gates:
        if gate.passed is not True:
            value = "unknown" if gate.value is None else f"{gate.value:.3g}"
            word = "missed" if gate.passed is False else "not decided by this run"
            return f"The gate {gate.name} was {word}: limit {gate.limit:g}, measured {value}."
    accuracy = result.accuracy
    if accuracy is None:
        worst = min(result.numerics.items(), key=lambda item: item[1].cosine)
        return (
            f"The outputs are not within the tolerance of the original: {worst[0]} has a cosine of"
            f" {worst[1].cosine:.6f} and is off by up to {worst[1].max_abs:.3g}."
        )
    word = "is over" if result.verdict == "fail" else "is not proved to be within"
    return (
        f"The drop in {accuracy.metric}, {accuracy.drop:.4f} ({accuracy.drop_lower_95:.4f} to"
        f" {accuracy.drop_upper_95:.4f}), {word} the budget of {max_drop}:"
        f" {accuracy.reference:.4f} in PyTorch, {accuracy.candidate:.4f} in the bundle, on"
        f" {accuracy.samples:,} samples."
    )


def _remedy(result: ValidateResult) -> str:
    accuracy = result.accuracy
    if result.verdict == "inconclusive" and accuracy is not None and accuracy.samples_needed:
        return f"About {accuracy.samples_needed:,} verdict samples would settle it."
    if result.verdict == "inconclusive":
        return "Measure again on a quieter machine, or with a larger --budget."
    return "Use a more exact bundle, or allow more with the option of that limit."


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
