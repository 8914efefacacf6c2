"""The pruned model of a build: the fastest of a few cuts that keeps the budget, as a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BudgetNotMet, ConfigError, PruneError
from edgekit.core.measurements import BuildCandidate
from edgekit.core.onnx_file import names_onnx
from edgekit.core.profiles import Profile
from edgekit.core.pruned import PruneResult
from edgekit.core.results import to_json
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.builds.keys import (
    data_key,
    host_key,
    metric_key,
    source_key,
    versions_key,
)
from edgekit.pipeline.exporting import export
from edgekit.pipeline.pruning import prune

# How many times as fast as the original: the deepest that keeps the budget is taken.
SPEEDUPS = (2.0, 1.6, 1.3)


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


def pruned_by(job: Job, profile: Profile) -> tuple[str, Bundle] | None:
    """The deepest cut that keeps the budget, by its name, exported; None where there is none.

    Those that were tried and are not good enough are candidates with their reasons. Raises
    EngineUnavailable where the target is not this machine.
    """
    for speedup in SPEEDUPS:
        name = f"pruned {speedup:g}×"
        job.progress(f"Candidate {name}")
        began = time.monotonic()
        try:
            kept = job.store.step(
                "prune", _key(job, profile, speedup), partial(_make, job, profile, speedup)
            )
        except (BudgetNotMet, PruneError) as error:
            missed = error.result if isinstance(error.result, PruneResult) else None
            job.candidates[name] = BuildCandidate(
                name,
                "fail" if missed is None else missed.verdict,
                None if missed is None else missed.accuracy,
                None if missed is None else missed.latency,
                None, False, job.told(error),
            )  # fmt: skip
            if isinstance(error, PruneError):
                # No other cut of this model could be made either.
                return None
            continue
        return name, job.run("prune", name, kept, began)
    return None


def _make(job: Job, profile: Profile, speedup: float, path: Path) -> Mapping[str, object]:
    """Prune to a speed-up within the budget, and export what is left to a path."""
    options = job.options
    called = Path(options.source).name.replace(":", "-")
    folder = path.with_name(f"{path.name}-source") / f"{called}-pruned"
    result = prune(
        options.source, folder, speedup=speedup, max_drop=options.max_drop or "1%",
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


def _key(job: Job, profile: Profile, speedup: float) -> dict[str, object] | None:
    options = job.options
    source = source_key(options.source, options.revision)
    data, metric = data_key(options.data), metric_key(options.metric)
    if source is None or data is None or metric is None or options.processor is not None:
        return None
    return {
        **source,
        "speedup": speedup,
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
