"""build: from a PyTorch source to the bundle that is best on a target, the budget enforced."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.built import BuildResult
from edgekit.core.bundle import BundleWriter, check_output
from edgekit.core.cachefolder import cache_folder
from edgekit.core.errors import BudgetNotMet, ConfigError, StepError
from edgekit.core.profiles import Profile, load_profile
from edgekit.pipeline.builds.budgets import check_budget
from edgekit.pipeline.builds.jobs import GOALS, Goal, Job, Options
from edgekit.pipeline.builds.proving import (
    REPORT,
    not_run_note,
    prove,
    told_of,
    unjudged,
    write_proved,
)
from edgekit.pipeline.builds.pruned import (
    check_prunable,
    check_prune,
    check_prune_target,
    pruned_by,
)
from edgekit.pipeline.builds.ranking import Rung, rank, why_not_run
from edgekit.pipeline.builds.rungs import exported_by, rungs_of
from edgekit.pipeline.builds.store import Store
from edgekit.pipeline.fitting import choose_engine
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.rows import ask_budget, more_rows
from edgekit.pipeline.workplace import workplace
from edgekit.reporting import require_reporting
from edgekit.sources.data import check_path


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
    prune: bool = False,
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
        prune: try a pruned model too, and take it where it passes and is faster; needs `data`.
        optimize_for: ``latency`` of one request at a time, ``throughput``, or ``size``.
        cache: take what an earlier build has made of the same things (see ``edgekit cache``).

    Raises:
        ConfigError: options or DATA that do not fit.
        EngineUnavailable: `prune` for a target that is not this machine.
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
    if prune:
        check_prune(source, data)
    for given in (data, calibration):
        if given is not None:
            check_path(given)
    check_output(Path(output), force=force)
    profile = choose_engine(load_profile(target, overrides=overrides), engine)
    if prune:
        check_prune_target(profile)
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
        exported = exported_by(job)
        if prune:
            check_prunable(exported)
        unprovable = check_budget(job, exported, profile, budget, began)
        rungs = [
            rung
            for name in engines
            for rung in rungs_of(
                job, exported, choose_engine(profile, name), unprovable, only=len(engines) == 1
            )
        ]
        found_pruned = pruned_by(job, exported, profile) if prune else None
        if found_pruned is not None:
            called, smaller = found_pruned
            rungs += rungs_of(job, smaller, profile, unprovable, only=False, called=called)
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
            job.result(profile, began),
            output=written.path,
            bundle_id=written.id,
            chosen=rung.name,
            verdict=validation.verdict,
            validation=validation,
            not_run=why_not_run(bundle),
            notes=told_of(rung, speeds),
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
        job.result(profile, began),
        output=output,
        bundle_id=written.id,
        chosen=rung.name,
        verdict="inconclusive",
        not_run=why_not_run(rung.bundle),
        notes=(not_run_note(rung.bundle, None),),
    )


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
        job.result(profile, began),
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
