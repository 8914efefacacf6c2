"""A build under way: what it was asked for, what it has run, what came of its candidates."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgekit.core.built import BuildCandidate, BuildResult, BuildStep
from edgekit.core.bundle import Bundle
from edgekit.core.errors import EdgekitError
from edgekit.core.profiles import Profile
from edgekit.core.results import to_json
from edgekit.pipeline.builds.store import Kept, Store
from edgekit.pipeline.progress import Progress

Goal = Literal["latency", "throughput", "size"]
GOALS: tuple[Goal, ...] = ("latency", "throughput", "size")


@dataclass(frozen=True)
class Options:
    """What all steps of a build are given."""

    source: str
    target: str
    overrides: tuple[str, ...]
    task: str | None
    data: str | None
    columns: str | None
    metric: str | None
    max_drop: str | None
    calibration: str | None
    batch: int | None
    length: int | None
    threads: int | None
    revision: str | None
    trust_remote_code: bool
    inputs: tuple[str, ...]
    seed: int
    processor: Path | None = None

    def told(self, *names: str) -> dict[str, object]:
        """Some of them, as a key of the cache holds them."""
        found = to_json({name: getattr(self, name) for name in names})
        return dict(found) if isinstance(found, dict) else {}


@dataclass
class Job:
    """A build under way: what was run, and what came of each candidate."""

    options: Options
    store: Store
    progress: Progress
    folder: Path
    steps: list[BuildStep] = field(default_factory=list)
    candidates: dict[str, BuildCandidate] = field(default_factory=dict)
    errors: list[EdgekitError] = field(default_factory=list)

    def run(self, name: str, what: str, kept: Kept, began: float) -> Bundle:
        """Note a step that was run, or found again."""
        self.steps.append(
            BuildStep(name, what, round(time.monotonic() - began, 3), kept.cached, kept.bundle.id)
        )
        if kept.cached:
            self.progress(f"{what}: found in the cache")
        return kept.bundle

    def told(self, error: EdgekitError) -> str:
        """An error as a candidate's reason."""
        return self.without_folder(error.message.rstrip("."))

    def without_folder(self, text: str) -> str:
        """A text without the working folder's name and those of the steps in it.

        Nobody knows the names of the folders that a build works in.
        """
        return re.sub(rf"{re.escape(str(self.folder))}(/[^/\s:;,]+)?/?", "", text)

    def result(self, profile: Profile, began: float) -> BuildResult:
        """What there is to tell before anything was chosen."""
        return BuildResult(
            output=None,
            bundle_id=None,
            steps=tuple(self.steps),
            candidates=tuple(self.candidates.values()),
            chosen=None,
            verdict="fail",
            validation=None,
            seconds=round(time.monotonic() - began, 3),
            target=profile.name,
        )
