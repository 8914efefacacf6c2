"""The pruned model of a build: the deepest cut that keeps the budget, as a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from edgekit.core.built import BuildCandidate
from edgekit.core.bundle import Bundle
from edgekit.core.errors import (
    BudgetNotMet,
    ConfigError,
    EngineUnavailable,
    ExportError,
    MeasurementError,
    PruneError,
    SourceError,
)
from edgekit.core.onnx_file import names_onnx
from edgekit.core.profiles import Profile
from edgekit.core.pruned import PruneResult
from edgekit.core.results import to_json
from edgekit.evaluation.statistics import DEFAULT_DROP
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.builds.keys import (
    data_key,
    host_key,
    metric_key,
    source_key,
    versions_key,
)
from edgekit.pipeline.choices.candidates import elsewhere
from edgekit.pipeline.cuts.goals import check_unpruned
from edgekit.pipeline.exporting import export
from edgekit.pipeline.pruning import prune
from edgekit.sources.data_pictures import file_columns, reads_files
from edgekit.sources.pruned.plan import has_plan, read_plan

NAME = "pruned"


def check_prune(source: str, data: str | None) -> None:
    """Raise ConfigError for what cannot be pruned within a budget."""
    if data is None:
        raise ConfigError(
            "--prune needs --data: what is cut is repaired and judged on it.",
            hint="Pass --data DATA, or leave --prune out.",
        )
    if names_onnx(source):
        raise ConfigError(
            f"--prune cuts PyTorch models, and {source} is ONNX.", hint="Leave --prune out."
        )
    folder = Path(source).expanduser()
    if has_plan(folder):
        check_unpruned(read_plan(folder), source)


def check_prune_target(profile: Profile) -> None:
    """Raise EngineUnavailable for a target that is not here: which cut is faster, nobody knows."""
    why = elsewhere(profile)
    if why is not None:
        raise EngineUnavailable(
            f"--prune for {profile.name} cannot be measured here: {why}.",
            hint="Prune by --ratio with edgekit prune, and build what it leaves without --prune.",
        )


def check_prunable(exported: Bundle) -> None:
    """Raise ConfigError for a model that generates: a budget alone does not say how to cut it."""
    if exported.manifest.generation is not None:
        raise ConfigError(
            f"--prune cuts within a budget, and {exported.manifest.name} generates: how much of"
            " such a model goes has to be said.",
            hint="Cut it with edgekit prune --ratio first, and build what that leaves without"
            " --prune.",
        )


def pruned_by(job: Job, exported: Bundle, profile: Profile) -> tuple[str, Bundle] | None:
    """The deepest cut that keeps the budget, by its name, exported; None where there is none.

    Then it is a candidate with the reason why not.
    """
    job.progress(f"Candidate {NAME}")
    began = time.monotonic()
    try:
        kept = job.store.step("prune", _key(job, exported, profile), partial(_make, job, profile))
    except (
        BudgetNotMet, PruneError, ConfigError, SourceError, ExportError, MeasurementError,
    ) as error:  # fmt: skip
        missed = error.result if isinstance(error.result, PruneResult) else None
        job.candidates[NAME] = BuildCandidate(
            NAME,
            "fail" if missed is None else missed.verdict,
            None if missed is None else missed.accuracy,
            None if missed is None else missed.latency,
            None, False, job.told(error),
        )  # fmt: skip
        return None
    return NAME, job.run("prune", NAME, kept, began)


def _make(job: Job, profile: Profile, path: Path) -> Mapping[str, object]:
    """Prune as deep as the budget allows, and export what is left to a path.

    Rows for choosing choose the cut: to try several on those for verdicts would spend them.
    """
    options = job.options
    called = Path(options.source).name.replace(":", "-")
    folder = path.with_name(f"{path.name}-source") / f"{called}-pruned"
    result = prune(
        options.source, folder, max_drop=options.max_drop or DEFAULT_DROP,
        target=options.target, engine=profile.engine, overrides=options.overrides,
        data=options.data, columns=options.columns, metric=options.metric,
        task=options.task, inputs=options.inputs, processor=options.processor,
        batch=options.batch, length=options.length, threads=options.threads,
        revision=options.revision, trust_remote_code=options.trust_remote_code,
        seed=options.seed, progress=job.progress,
    )  # fmt: skip
    export(
        str(folder), path, task=options.task, processor=options.processor,
        # A pruned module of one's own is built by the code that this very build was given.
        trust_remote_code=options.trust_remote_code or ":" in options.source,
        seed=options.seed, progress=job.progress,
    )  # fmt: skip
    plain = to_json(result)
    return plain if isinstance(plain, dict) else {}


def _key(job: Job, exported: Bundle, profile: Profile) -> dict[str, object] | None:
    options = job.options
    source = source_key(options.source, options.revision)
    manifest = exported.manifest
    column = next(iter(file_columns(manifest.task, reads_files(manifest))), None)
    data, metric = data_key(options.data, column=column), metric_key(options.metric)
    if source is None or data is None or metric is None or options.processor is not None:
        return None
    return {
        **source,
        "target": profile.to_json(),
        "data": data,
        "metric": metric,
        **options.told(
            "columns", "max_drop", "task", "inputs", "batch", "length", "threads", "overrides",
            "trust_remote_code", "seed",
        ),
        **versions_key(),
        **host_key(),
    }  # fmt: skip
