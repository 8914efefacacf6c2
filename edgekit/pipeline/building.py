"""build: from a PyTorch source to the bundle that is best on a target, the budget enforced."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.bundle import Bundle, BundleWriter, check_output
from edgekit.core.cachefolder import cache_folder
from edgekit.core.errors import (
    BudgetNotMet,
    ConfigError,
    EdgekitError,
    MissingDependency,
    StepError,
)
from edgekit.core.measurements import (
    BuildCandidate,
    BuildResult,
    QuantizeResult,
)
from edgekit.core.profiles import Profile, load_profile
from edgekit.core.results import to_json
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.builds.jobs import GOALS, Goal, Job, Options
from edgekit.pipeline.builds.keys import (
    bundle_key,
    data_key,
    host_key,
    metric_key,
    processor_key,
    source_key,
    versions_key,
)
from edgekit.pipeline.builds.proving import (
    REPORT,
    not_run_note,
    prove,
    unjudged,
    write_proved,
)
from edgekit.pipeline.builds.ranking import Rung, rank, why_not_run
from edgekit.pipeline.builds.store import Store
from edgekit.pipeline.choices.rows import read_rows
from edgekit.pipeline.compiling import compile
from edgekit.pipeline.exporting import export
from edgekit.pipeline.fitting import choose_engine
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.quantizing import quantize
from edgekit.pipeline.rows import (
    ask_budget,
    check_reach,
    check_rows,
    more_rows,
    read_verdict_rows,
    told_reach,
    wants_labels,
)
from edgekit.pipeline.workplace import workplace
from edgekit.reporting import require_reporting
from edgekit.sources.data import Samples, check_path, comes_from_afar
from edgekit.sources.data_pictures import reads_pictures

_QUANTIZED = ("int8", "int4")
# From the most exact to the least: what is not faster than the one before it is not worth it.
_EXACT_FIRST = ("fp32", "bf16", "fp16", *_QUANTIZED)


def build(
    source: str,
    output: Path | str,
    *,
    target: str = "host",
    engine: str | None = None,
    overrides: Sequence[str] = (),
    task: str | None = None,
    data: str | None = None,
    columns: str | None = None,
    metric: str | None = None,
    max_drop: str | None = None,
    optimize_for: Goal = "latency",
    calibration: str | None = None,
    batch: int | None = None,
    length: int | None = None,
    threads: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
    processor: Path | str | None = None,
    cache: bool = True,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> BuildResult:
    """Export, quantize, compile and validate a source for a target; the best bundle at `output`.

    Every precision that the target runs, on each of its engines, is a candidate: it has to keep
    the accuracy budget, and to be faster than the next more exact one. Where the target is this
    machine they are measured together; elsewhere the profile's order of precisions decides, and
    speed is said to be unmeasured. The chosen one is validated against the source and carries the
    evidence, ``report.html`` and the whole result. Where nothing here can judge what is for another
    device, and no DATA asks for it, the first by the profile's order is left as it was built.

    Args:
        engine: one of the target's engines; all of them by default.
        processor: of a custom module, a JSON or TOML file that says how pictures are prepared.
        max_drop: ``1%`` of the reference's metric (the default with `data`), or ``0.5pt``.
        optimize_for: ``latency`` of one request at a time, ``throughput``, or ``size``.
        cache: take what an earlier build has made of the same things (see ``edgekit cache``).

    Raises:
        ConfigError: options or DATA that do not fit.
        StepError: the source cannot be exported.
        BudgetNotMet: no candidate keeps the budget; ``result`` holds what was tried.
    """
    began = time.monotonic()
    if optimize_for not in GOALS:
        raise ConfigError(
            f"--optimize-for is {', '.join(GOALS[:-1])} or {GOALS[-1]}, got {optimize_for!r}."
        )
    budget = ask_budget(
        data, max_drop=max_drop, metric=metric, columns=columns, calibration=calibration
    )
    for given in (data, calibration):
        if given is not None:
            check_path(given)
    check_output(Path(output), force=force)
    profile = choose_engine(load_profile(target, overrides=overrides), engine)
    engines = (engine,) if engine is not None else profile.engines
    options = Options(
        source, target, tuple(overrides), task, data, columns, metric, max_drop, calibration,
        batch, length, threads, revision, trust_remote_code, tuple(inputs), seed,
        None if processor is None else Path(processor),
    )  # fmt: skip
    with workplace(Path(output), StepError) as folder:
        require_reporting(folder / REPORT, None)
        store = Store(cache_folder() if cache else None, folder)
        job: Job = Job(options, store, lambda text: progress(job.without_folder(text)), folder)
        exported = _export(job)
        unprovable = _check_rows(job, exported, profile, budget, began)
        rungs = [
            rung
            for name in engines
            for rung in _rungs(
                job, exported, choose_engine(profile, name), unprovable, only=len(engines) == 1
            )
        ]
        if not rungs:
            _raise_errors(job, profile)
        speeds = rank(rungs, profile, optimize_for, options, job.progress)
        for name, reason in speeds.rejected.items():
            job.candidates[name] = replace(job.candidates[name], reason=reason)
        found = prove(job, speeds, folder, Path(output).name)
        if found is None:
            left = unjudged(job, speeds)
            if not left or data is not None:
                if not left and all(step.step != "validate" for step in job.steps):
                    _raise_errors(job, profile)
                raise _missed(job, profile, began)
            return _left(job, left[0], profile, Path(output), began, force=force)
        rung, bundle, validation = found
        written = write_proved(bundle, validation, Path(output), force=force)
        return replace(
            _result(job, profile, began),
            output=written.path,
            bundle_id=written.id,
            chosen=rung.name,
            verdict=validation.verdict,
            validation=validation,
            not_run=why_not_run(bundle),
            notes=speeds.notes,
        )


def _raise_errors(job: Job, profile: Profile) -> None:
    """Raise what has stopped all candidates; nothing where one of them has missed the budget.

    Where it is the same for all it keeps its exit code: a missing package is no failed step.
    """
    if not job.errors or any(isinstance(error, BudgetNotMet) for error in job.errors):
        return
    first = job.errors[0]
    message = job.without_folder(first.message)
    if len({type(error) for error in job.errors}) == 1:
        first.message = message
        raise first
    raise StepError(
        f"No candidate for {profile.name} could be made: {message}", hint=first.hint
    ) from first


def _left(
    job: Job, rung: Rung, profile: Profile, output: Path, began: float, *, force: bool
) -> BuildResult:
    """The first candidate as it was built: without DATA no budget is asked for that it may miss."""
    with BundleWriter(output, force=force, error=StepError) as writer:
        writer.copy_from(rung.bundle)
        writer.stage(replace(rung.bundle.manifest, name=output.name))
        written = writer.commit()
    job.candidates[rung.name] = replace(job.candidates[rung.name], chosen=True)
    return replace(
        _result(job, profile, began),
        output=output,
        bundle_id=written.id,
        chosen=rung.name,
        verdict="inconclusive",
        not_run=why_not_run(rung.bundle),
        notes=(not_run_note(rung.bundle, None),),
    )


def _check_rows(
    job: Job, exported: Bundle, profile: Profile, budget: Budget, began: float
) -> str | None:
    """Before anything is made of the export: DATA that it can be judged by, and enough of it.

    Returns why no quantized candidate can be proved, where what is left of DATA by the rows that
    calibrate them is not enough. Raises BudgetNotMet where not even a perfect candidate could be
    proved on all of its rows.
    """
    options = job.options
    labels_wanted = wants_labels(options.max_drop, options.metric)
    if options.data is not None:
        check_rows(exported, options.data, options.columns, labels_wanted=labels_wanted)
    if options.calibration is not None:
        check_rows(exported, options.calibration, options.columns, judged=False)
    if options.data is None or comes_from_afar(options.data):
        # What comes over a network is read by who needs it.
        return None
    post = (exported.manifest.processor or {}).get("post")
    kind = post.get("activation") if isinstance(post, Mapping) else None
    # What transformers' pipeline leaves as it is are numbers, however many of them.
    problem = "regression" if kind == "none" else None

    def read(told: str | None) -> Samples:
        assert options.data is not None
        return read_verdict_rows(
            exported, told, options.data, options.columns, seed=options.seed,
            labels_wanted=labels_wanted,
        )  # fmt: skip

    try:
        rows = read(problem)
    except ConfigError as error:
        if kind is not None:
            raise
        try:
            read("regression")
        except ConfigError:
            raise error from None
        # Labels that are numbers: only the original tells what they are held to.
        return None
    reach = check_reach(exported, rows, problem, options.metric, budget)
    if reach is None:
        return _unprovable(job, exported, problem, budget)
    result = replace(
        _result(job, profile, began), verdict="inconclusive", samples_needed=reach.needed
    )
    raise BudgetNotMet(told_reach(reach, budget), hint=more_rows(reach.needed), result=result)


def _unprovable(job: Job, exported: Bundle, problem: str | None, budget: Budget) -> str | None:
    """Why nothing can be proved of what --calibration has calibrated: its rows never judge."""
    options = job.options
    given = options.calibration
    if given is None or problem is not None or comes_from_afar(given):
        return None
    try:
        left = read_rows(
            exported, None, options.data, options.columns, given, seed=options.seed,
            labels_wanted=wants_labels(options.max_drop, options.metric),
        ).verdict  # fmt: skip
    except ConfigError as error:
        return f"{error.message.rstrip('.')}: the rows of --calibration do not judge"
    if left is None:
        return None
    reach = check_reach(exported, left, problem, options.metric, budget)
    if reach is None:
        return None
    return f"{told_reach(reach, budget).rstrip('.')}; those of --calibration do not judge"


def _missed(job: Job, profile: Profile, began: float) -> BudgetNotMet:
    """What to say where no candidate passes: a failure, unless all of them were inconclusive."""
    tried = job.candidates.values()
    failed = any(one.verdict == "fail" for one in tried)
    needed = [
        one.accuracy.samples_needed
        for one in tried
        if one.accuracy is not None and one.accuracy.samples_needed is not None
    ]
    result = replace(
        _result(job, profile, began),
        verdict="fail" if failed else "inconclusive",
        samples_needed=min(needed, default=None),
    )
    unjudged = [one for one in tried if one.reason.startswith("built, not run")]
    if len(unjudged) == len(tried):
        return BudgetNotMet(
            f"Built, not run: none of {len(tried)} candidates for {profile.name} can be judged on"
            " this machine, so that none is left.",
            hint="Make one with edgekit export and edgekit compile, and judge it on the device"
            " with edgekit validate.",
            result=result,
        )
    hint = "Allow more with --max-drop, or give --data more rows."
    return BudgetNotMet(
        f"None of {len(tried)} candidates for {profile.name} can be proved within the budget.",
        hint=hint if failed or not needed else more_rows(min(needed)),
        result=result,
    )


def _export(job: Job) -> Bundle:
    options = job.options
    began = time.monotonic()
    key = source_key(options.source, options.revision)
    if key is not None:
        told = options.told("task", "inputs", "trust_remote_code", "seed")
        key = {**key, **told, **versions_key(), **processor_key(options.processor)}

    def make(path: Path) -> Mapping[str, object]:
        export(
            options.source, path, task=options.task, inputs=options.inputs,
            revision=options.revision, trust_remote_code=options.trust_remote_code,
            processor=options.processor, seed=options.seed, progress=job.progress,
        )  # fmt: skip
        return {}

    return job.run("export", "export", job.store.step("export", key, make), began)


def _rungs(
    job: Job, exported: Bundle, profile: Profile, unprovable: str | None, *, only: bool
) -> list[Rung]:
    """The candidates of one engine that could be made, the most exact first.

    `unprovable` says why no quantized one is to be tried; `only` that there is no other engine:
    what it lacks is then not a candidate's matter.
    """
    wanted = [name for name in _EXACT_FIRST if name in {*profile.precisions, "fp32"}]
    found: list[Rung] = []
    for precision in wanted:
        name = f"{profile.engine} {precision}"
        if unprovable is not None and precision in _QUANTIZED:
            job.candidates[name] = BuildCandidate(
                name, "inconclusive", None, None, None, False, unprovable
            )
            continue
        job.progress(f"Candidate {name}")
        try:
            rung = _rung(job, exported, profile, name, precision)
        except ConfigError:
            raise
        except EdgekitError as error:
            if only and isinstance(error, MissingDependency):
                raise
            job.errors.append(error)
            missed = error.result if isinstance(error.result, QuantizeResult) else None
            job.candidates[name] = BuildCandidate(
                name,
                "fail" if missed is None else missed.verdict,
                None if missed is None else missed.accuracy,
                None, None, False, job.told(error),
            )  # fmt: skip
            continue
        if rung is None:
            continue
        found.append(rung)
        job.candidates[name] = BuildCandidate(
            name, "inconclusive", None, None, rung.bundle.bytes(), False, "not judged"
        )
    return found


def _rung(job: Job, exported: Bundle, profile: Profile, name: str, precision: str) -> Rung | None:
    """One candidate, compiled; None for a precision that this engine has no use for."""
    before, overrides = exported, list(job.options.overrides)
    if precision in _QUANTIZED:
        before = _quantized(job, exported, profile, name, precision)
    elif precision in ("bf16", "fp16"):
        if profile.engine == "onnxruntime" and profile.device == "cpu":
            # Its CPU kernels compute in float32 whatever is stored.
            return None
        if profile.engine == "openvino":
            hint = {"bf16": "bf16", "fp16": "f16"}[precision]
            overrides.append(f"options.openvino.precision_hint={hint}")
        else:
            overrides.append(f"options.onnxruntime.precision={precision}")
    elif profile.engine == "openvino":
        overrides.append("options.openvino.precision_hint=f32")
    options = job.options
    began = time.monotonic()
    key = {
        **bundle_key(before),
        "engine": profile.engine,
        "target": profile.to_json(),
        "overrides": overrides,
        **options.told("batch", "length", "threads", "seed"),
        **versions_key(),
        **host_key(),
    }

    def make(path: Path) -> Mapping[str, object]:
        compile(
            before.path, path, target=options.target, engine=profile.engine, overrides=overrides,
            batch=options.batch, length=options.length, threads=options.threads,
            seed=options.seed, progress=job.progress,
        )  # fmt: skip
        return {}

    bundle = job.run("compile", name, job.store.step("compile", key, make), began)
    return Rung(name, profile.engine, precision, bundle)


def _quantized(job: Job, exported: Bundle, profile: Profile, name: str, precision: str) -> Bundle:
    options = job.options
    began = time.monotonic()
    bits = {"int8": 8, "int4": 4}[precision]
    reference = options.source if options.data is not None else None
    key = None
    named = reads_pictures(exported.manifest)
    known = (
        data_key(options.data, pictures=named),
        data_key(options.calibration, pictures=named),
        metric_key(options.metric),
    )
    if None not in known:
        key = {
            **bundle_key(exported),
            "engine": profile.engine,
            "target": profile.to_json(),
            "data": list(known),
            "bits": bits,
            **options.told(
                "columns",
                "max_drop",
                "batch",
                "length",
                "threads",
                "overrides",
                "trust_remote_code",
                "seed",
            ),
            **versions_key(),
            **host_key(),
        }

    def make(path: Path) -> Mapping[str, object]:
        result = quantize(
            exported.path, path, target=options.target, engine=profile.engine,
            overrides=options.overrides, bits=bits, calibration=options.calibration,
            data=options.data, columns=options.columns, metric=options.metric,
            reference=reference, max_drop=options.max_drop, batch=options.batch,
            length=options.length, threads=options.threads, revision=options.revision,
            trust_remote_code=options.trust_remote_code, inputs=options.inputs,
            seed=options.seed, progress=job.progress,
        )  # fmt: skip
        plain = to_json(result)
        return plain if isinstance(plain, dict) else {}

    return job.run("quantize", name, job.store.step("quantize", key, make), began)


def _result(job: Job, profile: Profile, began: float) -> BuildResult:
    """What there is to tell before anything was chosen."""
    return BuildResult(
        output=None,
        bundle_id=None,
        steps=tuple(job.steps),
        candidates=tuple(job.candidates.values()),
        chosen=None,
        verdict="fail",
        validation=None,
        seconds=round(time.monotonic() - began, 3),
        target=profile.name,
    )
