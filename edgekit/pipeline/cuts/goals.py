"""What a pruning is to reach: a share cut, a speed-up, or as much as the accuracy allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.bundle import check_output
from edgekit.core.errors import ConfigError, EngineUnavailable
from edgekit.core.profiles import Profile
from edgekit.evaluation.statistics import DEFAULT_DROP, Budget, parse_drop
from edgekit.pipeline.choices.candidates import elsewhere
from edgekit.sources.pruned.plan import PLAN_NAME, STRUCTURES, Plan, Structure, has_plan

# What is tried for the largest cut within a budget, the deepest first.
SPEEDUPS = (3.0, 2.4, 2.0, 1.7, 1.45, 1.25, 1.1)
RATIOS = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_GOALS = "--ratio, --speedup or --max-drop"


@dataclass(frozen=True)
class Goal:
    """One of ``ratio`` and ``speedup``, or neither: then the deepest cut within the budget.

    ``budget`` is the drop allowed, None where there is no DATA to judge it by.
    """

    ratio: float | None
    speedup: float | None
    budget: Budget | None

    @property
    def open(self) -> bool:
        """Whether the accuracy alone decides how much is cut."""
        return self.ratio is None and self.speedup is None

    def to_json(self) -> dict[str, object]:
        """The goal as a result tells it."""
        drop = None if self.budget is None else str(self.budget)
        return {"ratio": self.ratio, "speedup": self.speedup, "max_drop": drop}


def read_goal(
    ratio: float | None,
    speedup: float | None,
    max_drop: str | None,
    data: str | None,
    *,
    sensitivity: bool,
) -> Goal | None:
    """The goal; None where only the sensitivity is asked for.

    Raises ConfigError for none at all, for two that contradict each other, and for numbers that
    are none.
    """
    if ratio is not None and not 0 < ratio < 1:
        raise ConfigError(
            f"--ratio is a share between 0 and 1 of what is cut, got {ratio:g}.",
            hint="For example: --ratio 0.3",
        )
    if speedup is not None and not (speedup > 1 and math.isfinite(speedup)):
        raise ConfigError(
            f"--speedup is above 1 (times as fast as the original), got {speedup:g}.",
            hint="For example: --speedup 1.5",
        )
    if ratio is not None and speedup is not None:
        raise ConfigError(
            f"--ratio {ratio:g} and --speedup {speedup:g} both say how much is cut.",
            hint="Give one of them.",
        )
    budget = None if max_drop is None else parse_drop(max_drop)
    if budget is not None and data is None:
        raise ConfigError(
            f"--max-drop needs --data to judge the drop by, got --max-drop {max_drop} without it.",
            hint="Pass --data DATA.",
        )
    if ratio is None and speedup is None and budget is None:
        if sensitivity:
            return None
        raise ConfigError(
            f"Nothing says how much to cut: none of {_GOALS} is given.",
            hint="For example --speedup 1.5, or look first with --sensitivity.",
        )
    if budget is None and data is not None:
        budget = parse_drop(DEFAULT_DROP)
    return Goal(ratio, speedup, budget)


def read_structures(
    asked: Sequence[str], present: Sequence[Structure], id: str
) -> tuple[Structure, ...]:
    """The structures to cut, in the order of the plan; all that the model has by default.

    Raises ConfigError for one that nobody knows, or that the model does not have.
    """
    for name in asked:
        if name not in STRUCTURES:
            raise ConfigError(
                f"There is no structure {name!r}.", hint=f"Known: {', '.join(STRUCTURES)}."
            )
        if name not in present:
            raise ConfigError(f"{id} has no {name} to prune.", hint=f"It has {', '.join(present)}.")
    chosen = asked or present
    return tuple(one for one in STRUCTURES if one in chosen)


def check_unpruned(plan: Plan | None, source: str) -> None:
    """Raise ConfigError for a source that pruning has made: it is not what it would be held to."""
    if plan is None:
        return
    raise ConfigError(
        f"{source} has been pruned already, from {plan.origin.id}: a second pruning would be judged"
        " against it and not against that original.",
        hint=f"Prune {plan.origin.id} instead, with a goal that goes further.",
    )


def check_timed(goal: Goal | None, profile: Profile) -> str | None:
    """Why nothing can be timed for the target here; None where it can.

    Raises EngineUnavailable where the goal is a speed.
    """
    why = elsewhere(profile)
    if why is not None and goal is not None and goal.speedup is not None:
        raise EngineUnavailable(
            f"--speedup {goal.speedup:g} for {profile.name} cannot be measured here: {why}.",
            hint="Cut by --ratio, export both models, measure them on the device with: python -m"
            " edgekit.runtime.bench BUNDLE --json > there.json; and set them side by side with:"
            " edgekit bench BUNDLE --attach there.json",
        )
    return why


def check_folder(output: Path, source: str, *, force: bool) -> None:
    """Raise ConfigError for an output that must not be written: before any long work starts.

    Only what pruning has written is replaced, with `force`.
    """
    path = Path(source).expanduser()
    if output.is_dir() and path.is_dir() and output.samefile(path):
        raise ConfigError(
            f"The output {output} is the source; sources are never changed.",
            hint="Choose another -o.",
        )
    if not output.is_symlink() and output.is_dir() and has_plan(output):
        if not force:
            raise ConfigError(
                f"The output {output} exists.",
                hint="Choose another -o, or pass --force to replace it.",
            )
        return
    if output.is_dir() and any(output.iterdir()):
        raise ConfigError(
            f"The output {output} exists and holds something other than a pruned model.",
            hint=f"Choose another -o; --force replaces folders with a {PLAN_NAME} only.",
        )
    check_output(output, force=False)
