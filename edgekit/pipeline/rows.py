"""The rows of DATA that a verdict rests on: asked for, looked at early, read late, told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Manifest
from edgekit.evaluation.accuracy import choose_metric, problem_in
from edgekit.evaluation.accuracy_reach import OutOfReach, out_of_reach
from edgekit.evaluation.metrics.table import LABELLED, UNLABELLED
from edgekit.evaluation.statistics import DEFAULT_DROP, Budget, parse_drop
from edgekit.reporting import words
from edgekit.runtime.workloads import input_specs
from edgekit.sources.data import Samples, check_data, parse_columns, read_samples
from edgekit.sources.data_paths import require_texts
from edgekit.sources.data_pictures import reads_files

# Metrics that hold the bundle to the reference's own answers: no labels are missed.
_WITHOUT_LABELS = frozenset().union(*UNLABELLED.values()) - frozenset().union(*LABELLED.values())
# Tasks that take a bundle which knows how to generate.
_WRITTEN = frozenset({"text-generation", "text2text-generation"})


# Budgets that a person would choose, in per cent or points.
_BUDGETS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
# Of ten rows of DATA, those whose role is the verdict.
_OF_TEN = 7


def ask_budget(
    data: str | None,
    *,
    max_drop: str | None = None,
    metric: str | None = None,
    columns: str | None = None,
    limit: int | None = None,
    worst: Path | str | None = None,
    calibration: str | None = None,
) -> Budget:
    """The budget of the drop. Raises ConfigError for an option of DATA where there is none.

    `calibration` is a DATA too: columns may name its.
    """
    budget = parse_drop(max_drop or DEFAULT_DROP)
    given = {"--max-drop": max_drop, "--metric": metric, "--limit": limit, "--worst": worst}
    if calibration is None:
        given["--columns"] = columns
    for option, value in given.items():
        if value is not None and data is None:
            raise ConfigError(
                f"{option} needs --data, got {option} {value} without it.",
                hint="Pass --data DATA, or leave it out: then the tolerance of the precision"
                " decides.",
            )
    return budget


def wants_labels(max_drop: str | None, metric: str | None) -> bool:
    """Whether a verdict is asked for that labels would change.

    A budget is meant of the task's metric; agreement is a choice where it is named.
    """
    return max_drop is not None and metric not in _WITHOUT_LABELS


def check_rows(
    bundle: Bundle,
    data: str,
    columns: str | None,
    *,
    labels_wanted: bool = False,
    judged: bool = True,
) -> None:
    """Raise ConfigError for DATA that is not there or has other columns, before anything runs.

    So for a bundle that reads none; and for one without a metric, where DATA is to judge it.
    """
    manifest = bundle.manifest
    generates = manifest.generation is not None
    if "model" not in manifest.components and not generates:
        raise ConfigError(
            f"There is no metric for a bundle of {' and '.join(manifest.components)}.",
            hint="Leave --data out: the vectors of both are compared with the original's.",
        )
    known = {task for task, _ in (*LABELLED, *UNLABELLED)}
    if judged and (manifest.task not in known or (manifest.task in _WRITTEN and not generates)):
        raise ConfigError(
            f"There is no metric for {manifest.task}, so DATA cannot judge {bundle.path}.",
            hint="Leave --data out: the outputs are compared with the original's on the golden"
            " inputs.",
        )
    if generates and not reads_files(manifest):
        require_texts(data, manifest.task)
    check_data(
        data,
        manifest.task,
        columns=parse_columns(columns),
        labels=manifest.labels,
        inputs=[spec.name for spec in input_specs(bundle)],
        labels_wanted=labels_wanted,
        pictures=reads_files(manifest),
    )


def read_verdict_rows(
    bundle: Bundle,
    problem: str | None,
    data: str,
    columns: str | None,
    *,
    limit: int | None = None,
    seed: int = 0,
    labels_wanted: bool = False,
) -> Samples:
    """The rows for verdicts that no earlier step has seen. Raises as `read_samples` does."""
    manifest = bundle.manifest
    return read_samples(
        data,
        manifest.task,
        columns=parse_columns(columns),
        labels=manifest.labels,
        problem=problem or _declared(manifest),
        inputs=[spec.name for spec in input_specs(bundle)],
        role="verdict",
        limit=limit,
        seed=seed,
        exclude=used_rows(manifest),
        labels_wanted=labels_wanted,
        pictures=reads_files(manifest),
    )


def data_name(data: str) -> str:
    """What a manifest calls a DATA: the name of its file, or its id; whose folder is nobody's."""
    path, hash_, split = data.partition("#")
    return f"{Path(path).name if Path(path).exists() else path}{hash_}{split}"


def used_rows(manifest: Manifest) -> set[str]:
    """The hashes of the rows that steps have calibrated with, or chosen by."""
    return {row for step in manifest.steps for row in _hashes(step.data)}


def check_reach(
    bundle: Bundle, samples: Samples, problem: str | None, metric: str | None, budget: Budget
) -> OutOfReach | None:
    """What so many rows lack to prove the budget, whatever answers them; None where they may."""
    told = problem_in(bundle.manifest, samples.problem or problem)
    chosen = choose_metric(bundle.manifest, samples, told, metric)
    return out_of_reach(chosen, len(samples), budget)


def told_reach(reach: OutOfReach, budget: Budget) -> str:
    """Why a budget cannot be proved, as a sentence."""
    least = words.hundredths(reach.upper, budget.unit)
    return (
        f"The budget of {budget} cannot be proved on {reach.rows:,} rows: even a bundle that"
        f" answers each of them as the original does may lose up to {least} on others (95 %)."
    )


def foretold(
    bundle: Bundle, samples: Samples, problem: str | None, metric: str | None, budget: Budget
) -> str | None:
    """That these rows cannot prove a budget, before they are judged, and what would; else None."""
    reach = check_reach(bundle, samples, problem, metric, budget)
    if reach is None and budget.limit > 0:
        return None
    if reach is None:
        return (
            f"The budget of {budget} takes a bundle that is proved to be better than its original:"
            " of one that is as good no number of rows shows it. Allow some with --max-drop."
        )
    if reach.needed is not None:
        return f"{told_reach(reach, budget)} {more_rows(reach.needed)}"
    # Relative to a metric below 1, and where some samples disagree, the bound is wider than this.
    enough = next((one for one in _BUDGETS if one >= 200 * reach.upper), _BUDGETS[-1])
    unit = "%" if budget.unit == "relative" else "pt"
    return (
        f"{told_reach(reach, budget)} Nor would more rows prove it: with a budget of 0 a bundle can"
        " fail, and passes only if it is proved to be better than its original. For one that is as"
        f" good give, for example, --max-drop {enough:g}{unit}."
    )


def more_rows(needed: int | None) -> str:
    """What to do where a verdict is inconclusive for want of rows."""
    if needed is None:
        return "No number of rows would prove it: allow more with --max-drop."
    whole = math.ceil(needed * 10 / _OF_TEN)
    return (
        f"About {needed:,} rows for the verdict would settle it: give DATA of some {whole:,} rows,"
        " of which 70 % are for verdicts, or allow more with --max-drop."
    )


def told_rows(samples: Samples) -> str:
    """What became of the rows of DATA."""
    parts = [f"{samples.eligible:,} are for verdicts (the rest is kept for calibration and search)"]
    if samples.excluded:
        parts.append(f"{samples.excluded:,} of them have been used by earlier steps")
    if len(samples) < samples.eligible - samples.excluded:
        parts.append(f"{len(samples):,} of them are judged (--limit)")
    return f"{samples.read:,} rows: {', '.join(parts)}"


def _declared(manifest: Manifest) -> str | None:
    """The kind of classification as far as a bundle's processor tells it."""
    post = (manifest.processor or {}).get("post")
    activation = post.get("activation") if isinstance(post, Mapping) else None
    several = manifest.labels is not None and len(manifest.labels) > 1
    return "multi_label_classification" if several and activation == "sigmoid" else None


def _hashes(data: Mapping[str, object]) -> list[str]:
    lists = [rows for rows in data.values() if isinstance(rows, list)]
    return [row for rows in lists for row in rows if isinstance(row, str)]
