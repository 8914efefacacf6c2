"""validate: the verdict on a bundle, against the original PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError, EdgekitError
from edgekit.core.lazy import imported_ahead
from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Gate,
    LayerError,
    Numerics,
    Size,
    ValidateResult,
    Verdict,
    WorstSample,
)
from edgekit.core.tolerance import Tolerance
from edgekit.evaluation import latency as timing
from edgekit.evaluation.accuracy import WORST, evaluate, problem_of
from edgekit.evaluation.contenders import ReferenceSource
from edgekit.evaluation.layers import SAMPLES, check_layers, layer_errors
from edgekit.evaluation.measuring import DEFAULT_PROCESSES
from edgekit.evaluation.numerics import distances_on
from edgekit.evaluation.pairs import sample_feeds
from edgekit.evaluation.reference import Reference, check_origin, declared_inputs, source_task
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.ahead import Begun, begin
from edgekit.pipeline.originals import (
    STORED_ANSWERS,
    find_original,
    load_original,
    opening_modules,
    require_original,
)
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import versions
from edgekit.pipeline.recording import (
    bundle_facts,
    check_worst_file,
    data_facts,
    record_evidence,
    reference_facts,
    shortened,
    source_bytes,
    write_worst,
)
from edgekit.pipeline.rows import (
    ask_budget,
    check_rows,
    foretold,
    read_verdict_rows,
    told_rows,
    wants_labels,
)
from edgekit.pipeline.timing import DEFAULT_LENGTH, plan_timing, time_against
from edgekit.pipeline.verdicts import (
    Limits,
    combine,
    drop_gate,
    judge_gates,
    reason,
    remedy,
    tolerance_gate,
    with_target,
)
from edgekit.runtime import machine
from edgekit.runtime.golden import bar_for, read
from edgekit.runtime.model import Model
from edgekit.runtime.opening import open_model
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import fit_workload, make_workloads
from edgekit.sources.data import Samples, comes_from_afar

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

DEFAULT_BUDGET = 20.0
# The tensors inside the graph that a result tells of, worst first.
_LAYERS = 50


def validate(
    bundle: Path | str,
    *,
    reference: str | None = None,
    data: str | None = None,
    columns: str | None = None,
    metric: str | None = None,
    max_drop: str | None = None,
    min_speedup: float | None = None,
    max_latency_ms: float | None = None,
    max_size_mb: float | None = None,
    max_rss_mb: float | None = None,
    limit: int | None = None,
    layers: Path | str | None = None,
    worst: Path | str | None = None,
    worst_count: int = 100,
    latency: bool = True,
    batch: int | None = None,
    length: int | Literal["data"] | None = None,
    threads: int | None = None,
    budget: float = DEFAULT_BUDGET,
    processes: int = DEFAULT_PROCESSES,
    record: bool = False,
    force: bool = False,
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
    tolerance of the bundle's precision. A bundle that is resolved slower than the original fails,
    and so does one that misses a limit of the target it was compiled for.

    Args:
        reference: the SOURCE that the bundle was made from, run in PyTorch eager float32. Of an
            imported model it is that model itself: the ONNX file or the imported bundle, which
            needs no naming where it is the one that is judged. Without either, the answers that
            the bundle holds of it are compared, and nothing is timed.
        metric: one that fits the task, or ``module:function``: a function of one's own that is
            called with all predictions and all labels, and returns one number.
        max_drop: ``1%`` of the reference's metric (the default) or ``0.5pt``, absolute; with
            `data` only.
        min_speedup, max_latency_ms, max_size_mb, max_rss_mb: gates; megabytes of 10^6 bytes.
        limit: judge so many of the samples that are for verdicts.
        layers: the exported bundle that this one was made from: rank the tensors inside by error.
        worst: a file for `worst_count` samples on which the two differ most, as JSON lines.
        latency: measure it; ``batch`` × ``length`` is the bundle's own workload by default.
        record: write the evidence into the manifest; the bundle's id stays. The same verdict on
            more rows of the same data is left as it is, unless `force` is given; without `data`
            only speed and memory are added to a verdict that rests on some.

    Raises:
        MissingDependency: PyTorch (for checkpoints: transformers) is not installed.
        ConfigError: options or DATA that do not fit, or a reference with other weights.
        BudgetNotMet: the verdict is not "pass"; ``result`` holds it.
        MeasurementError: a contender could not be measured; ``result`` holds what was found before.
    """
    allowed = ask_budget(
        data, max_drop=max_drop, metric=metric, columns=columns, limit=limit, worst=worst
    )
    limits = Limits(min_speedup, max_latency_ms, max_size_mb, max_rss_mb)
    timing_asked = limits.need_timing
    if limits.need_timing and not latency:
        raise ConfigError(
            "A gate on speed or memory needs a measurement.", hint="Leave --no-latency out."
        )
    if worst is not None:
        check_worst_file(Path(worst))
    opened = open_bundle(bundle)
    baseline = None if layers is None else open_bundle(layers)
    if baseline is not None:
        check_layers(baseline, opened)
    if reference is not None:
        require_original(reference)
    original = find_original(opened, reference, data=data is not None, timed=limits.need_timing)
    if data is None and opened.manifest.golden is None and not _feedable(opened):
        raise ConfigError(
            f"{opened.path} holds no golden answers, and inputs are made for bundles of one"
            " component.",
            hint="Pass --data DATA: what both answer is compared then.",
        )
    latency = latency and original.spec is not None
    limits, notes = with_target(limits, opened.manifest.target, timed=latency)
    notes = (*original.notes, *notes)
    if original.spec is not None:
        require_original(original.spec)
    measuring = None
    if latency:
        measuring = plan_timing(
            opened, batch=batch, length=length, data=data, columns=columns, threads=threads,
            budget=budget, processes=processes, seed=seed,
        )  # fmt: skip
    labels_wanted = wants_labels(max_drop, metric)
    if data is not None:
        check_rows(opened, data, columns, labels_wanted=labels_wanted)
    progress(f"Loading the reference {original.spec or 'answers'}")
    declared = tuple(inputs) or declared_inputs(opened.manifest)

    def read(problem: str | None) -> Samples:
        assert data is not None
        return read_verdict_rows(
            opened, problem, data, columns, limit=limit, seed=seed, labels_wanted=labels_wanted
        )

    with ExitStack() as stack:
        # Nobody else touches PyTorch or transformers meanwhile: a module that is half imported by
        # one thread lacks names for another.
        with imported_ahead(opening_modules(original.spec)):
            model = stack.enter_context(open_model(opened, threads=threads))
            local = data is not None and not comes_from_afar(data)
            begun = begin(model, original.spec, read) if local else None
        source = load_original(
            opened,
            original,
            task=source_task(opened.manifest),
            revision=revision,
            trust_remote_code=trust_remote_code,
            inputs=declared,
        )
        if not allow_other_reference:
            hint = "Pass the original model, or --allow-other-reference to compare all the same."
            check_origin(opened, source, hint=hint)
        if data is not None and begun is None:
            begun = Begun(read(source.problem_type))
        samples = None if begun is None else begun.samples
        if begun is None:
            progress("Comparing the outputs on the golden inputs")
            found = _without_data(model, source, stored=original.spec is None)
        else:
            for note in begun.samples.notes:
                progress(note)
            progress(told_rows(begun.samples))
            beforehand = foretold(opened, begun.samples, source.problem_type, metric, allowed)
            if beforehand is not None:
                progress(beforehand)
            progress(f"Judging {len(begun.samples):,} samples through both models")
            count = max(WORST, worst_count) if worst is not None else WORST
            found = _with_data(model, source, begun, metric, allowed, seed, count, progress)
        if worst is not None:
            write_worst(Path(worst), found.worst[:worst_count])
        what, against = bundle_facts(model), reference_facts(source)
        ranked: tuple[LayerError, ...] = ()
        if baseline is not None:
            feeds = _some_feeds(model, samples)
            inside = layer_errors(baseline, opened, feeds, threads=threads, progress=progress)
            ranked, beside = inside.errors, inside.note(baseline.path)
            notes = notes if beside is None else (*notes, beside)
    reference_bytes = source_bytes(source)
    del source

    def whole(timed: BenchResult | None) -> ValidateResult:
        """The result with a measurement, or without the one that was asked for."""
        size = Size(reference_bytes, opened.bytes(), opened.bytes() / max(1, reference_bytes))
        found_latency = None if timed is None else timing.latency_of(timed)
        judged, more = judge_gates(limits, found_latency, timed, size)
        gates = (*found.gates, *judged)
        if found.accuracy is not None:
            gates = (drop_gate(found.accuracy, allowed, found.verdict), *gates)
        verdict = combine(found.verdict, gates)
        if latency and timed is None and verdict == "pass":
            verdict = "inconclusive"
        return ValidateResult(
            verdict=verdict,
            accuracy=found.accuracy,
            numerics=found.numerics,
            latency=found_latency,
            size=size,
            gates=gates,
            device=machine.device_card(),
            versions=versions(),
            bundle=what,
            reference=against,
            data={}
            if data is None or samples is None or found.accuracy is None
            else data_facts(data, samples, found.accuracy.samples),
            worst=shortened(found.worst[:WORST]),
            layers=ranked[:_LAYERS],
            timing=timed,
            notes=(*notes, *found.notes, *more),
        )

    timed = None
    if measuring is not None:
        assert original.spec is not None
        compared = ReferenceSource(
            original.spec, revision=revision, trust_remote_code=trust_remote_code, inputs=declared
        )
        try:
            timed = time_against(opened, compared, measuring, progress)
        except EdgekitError as error:
            # An hour of accuracy is not lost with a measurement that failed.
            error.result = whole(None)
            raise
    result = whole(timed)
    if record:
        stored = None if original.spec is not None else STORED_ANSWERS
        progress(record_evidence(opened, result, data=data, reference=stored, force=force))
    if result.verdict != "pass":
        raise BudgetNotMet(
            reason(result, str(allowed), found.verdict, found.problem),
            hint=remedy(result, found.verdict, timing_asked=timing_asked),
            result=result,
        )
    return result


@dataclass(frozen=True)
class _Found:
    """What the comparison of the two models' answers came to; ``problem`` is why it failed.

    ``gates`` are those that it was judged by, but for the drop's.
    """

    verdict: Verdict
    accuracy: Accuracy | None
    numerics: Mapping[str, Numerics]
    problem: str | None
    notes: tuple[str, ...] = ()
    worst: tuple[WorstSample, ...] = ()
    gates: tuple[Gate, ...] = ()


def _with_data(
    model: Model,
    source: LoadedSource,
    begun: Begun,
    metric: str | None,
    budget: Budget,
    seed: int,
    worst: int,
    progress: Progress,
) -> _Found:
    """Both models on DATA; the interval of the drop decides."""
    samples = begun.samples
    found = evaluate(
        model, source, samples, metric=metric, max_drop=budget, texts=begun.texts, seed=seed,
        worst=worst, progress=progress,
    )  # fmt: skip
    notes = found.notes
    if samples.excluded:
        notes = (f"{samples.excluded:,} rows that earlier steps have used are left out.", *notes)
    return _Found(found.verdict, found.accuracy, found.numerics, found.problem, notes, found.worst)


def _without_data(model: Model, source: LoadedSource, *, stored: bool = False) -> _Found:
    """Both models on golden and benchmark inputs; the tolerance of the precision decides.

    Of a reference whose answers are `stored` there are those to the golden inputs alone.
    """
    rules: Mapping[str, Tolerance] = {}
    if model.manifest.golden is not None:
        rules = model.manifest.golden.tolerance
    bar = bar_for(model.manifest.components, model.precision, rules)
    distances = distances_on(
        model,
        Reference(source),
        _own_feeds(model, made=not stored),
        problem=problem_of(model, source, None),
    )
    numerics = {name: distance.numerics() for name, distance in distances.items()}
    judged = {name: one for name, one in distances.items() if name not in bar.told}
    far = [one.describe(name) for name, one in judged.items() if not one.within(bar.rule)]
    verdict: Verdict = "pass" if numerics and not far else "fail"
    gates, notes = tolerance_gate(judged, bar.rule)
    given = {spec.name for part in model.manifest.components.values() for spec in part.outputs}
    untold = sorted(given - distances.keys())
    if stored and untold:
        notes += (
            f"Not compared, for the bundle holds no answers of the original in them:"
            f" {', '.join(untold)}. Name the model with --reference.",
        )
    return _Found(verdict, None, numerics, far[0] if far else None, notes, gates=gates)


def _own_feeds(model: Model, *, made: bool = True) -> list[Mapping[str, Array]]:
    """Benchmark inputs of a bundle, which are `made`, and its golden ones."""
    feeds: list[Mapping[str, Array]] = []
    if made and _feedable(model.bundle):
        batch, _ = fit_workload(model.bundle, 1, DEFAULT_LENGTH)
        feeds += [workload.feeds for workload in make_workloads(model.bundle, batch=batch)]
    if model.manifest.golden is not None:
        feeds.append(read(model.bundle.file(model.manifest.golden.file)).inputs)
    return feeds


def _feedable(bundle: Bundle) -> bool:
    """Whether inputs can be made for a bundle: not for an encoder and its decoder."""
    return set(bundle.manifest.components) in ({"model"}, {"image", "text"})


def _some_feeds(model: Model, samples: Samples | None) -> list[Mapping[str, Array]]:
    """The inputs on which the tensors inside two graphs are compared."""
    if samples is None or model.manifest.generation is not None:
        return _own_feeds(model)
    return [*sample_feeds(model, samples, SAMPLES)]
