"""Before a build makes anything: whether its DATA can prove what its budget asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BudgetNotMet, ConfigError
from edgekit.core.profiles import Profile
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.choices.rows import read_rows
from edgekit.pipeline.rows import (
    check_reach,
    check_rows,
    more_rows,
    read_verdict_rows,
    told_reach,
    wants_labels,
)
from edgekit.sources.data import Samples, comes_from_afar


def check_budget(
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
        job.result(profile, began), verdict="inconclusive", samples_needed=reach.needed
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
