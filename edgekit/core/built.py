"""The result of build: the steps it took, the candidates, and the one that it chose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.core.measurements import Accuracy, Latency, ValidateResult, Verdict


@dataclass(frozen=True)
class BuildStep:
    """A step of a build; ``cached``: its result was found and not made anew."""

    step: str
    what: str
    seconds: float
    cached: bool
    bundle_id: str | None


@dataclass(frozen=True)
class BuildCandidate:
    """An engine at a precision, as far as it came, and why it was or was not chosen.

    ``accuracy`` and ``latency`` are against the original; None where it was not validated.
    """

    name: str
    verdict: Verdict
    accuracy: Accuracy | None
    latency: Latency | None
    bytes: int | None
    chosen: bool
    reason: str


@dataclass(frozen=True)
class BuildResult:
    """What `build` made: the steps it took, the candidates and the one that it chose."""

    output: Path | None
    bundle_id: str | None
    steps: tuple[BuildStep, ...]
    candidates: tuple[BuildCandidate, ...]
    chosen: str | None
    verdict: Verdict
    validation: ValidateResult | None
    seconds: float
    target: str = ""
    #: Why the chosen bundle was built and not run on its target; None where it was run.
    not_run: str | None = None
    #: The rows for verdicts that would settle an inconclusive result.
    samples_needed: int | None = None
    notes: tuple[str, ...] = ()
