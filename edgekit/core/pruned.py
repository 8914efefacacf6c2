"""The result of prune: what was cut, what it cost in accuracy and what it gained in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.core.measurements import Accuracy, Latency, Noise, Verdict


@dataclass(frozen=True)
class Change:
    """A count of the original and of the pruned model."""

    before: int
    after: int


@dataclass(frozen=True)
class PrunedLayer:
    """What is left of one layer of the original; nothing where it is not ``kept``.

    Heads that share keys and values count as one.
    """

    name: str
    kept: bool
    heads: Change
    ffn: Change


@dataclass(frozen=True)
class TablePoint:
    """One entry of the latency table: a layer of this width saves so many milliseconds.

    ``kind`` is "heads", "ffn", "layer" (a whole one; its width is 0) or "channels" (in per cent of
    all that may go, of the whole model).
    """

    kind: str
    width: int
    saved_ms: float


@dataclass(frozen=True)
class RecoveryFacts:
    """What distillation did; the losses are those of rows that nothing was fitted to.

    Of ``steps`` that were run the model after ``best_step`` was kept. Agreement is the share of
    decisions as in the original, None where there are no classes. ``stopped`` tells why not all
    steps were run.
    """

    steps: int
    best_step: int
    loss_before: float
    loss_after: float
    agreement_before: float | None
    agreement_after: float | None
    stopped: str | None
    seconds: float


@dataclass(frozen=True)
class SensitivityRow:
    """One structure cut by a share, with least squares where there is DATA, and nothing else.

    ``loss`` is the distance of the outputs from the original's, ``agreement`` the share of
    decisions as in the original, ``accuracy`` that on labels and ``reference_accuracy`` the
    original's on the same; None where there are none.
    ``speedup`` is what the latency table foretells, None where nothing was timed.
    """

    structure: str
    ratio: float
    parameters: int
    loss: float
    agreement: float | None
    accuracy: float | None
    speedup: float | None
    reference_accuracy: float | None = None


@dataclass(frozen=True)
class Cut:
    """A plan that was tried: what was foretold and found of it, and why it was or was not taken.

    ``loss`` is the distance of its outputs from the original's on rows for choosing.
    """

    name: str
    predicted_speedup: float | None
    speedup: float | None
    loss: float | None
    taken: bool
    reason: str


@dataclass(frozen=True)
class PruneResult:
    """What `prune` made; ``output`` is None where nothing was left.

    ``accuracy`` is the pruned model against the original on rows that no choice saw, ``latency``
    the same two on the target's engine; each is None where it was not asked for or cannot be
    measured here. ``predicted_speedup`` is what the latency table foretold, None without one.
    ``flops`` are those of one inference at the ``workload``, and a multiplication with its addition
    counts as two.
    """

    output: Path | None
    structures: tuple[str, ...]
    parameters: Change
    flops: Change
    accuracy: Accuracy | None
    latency: Latency | None
    verdict: Verdict
    method: str
    target: str
    engine: str
    goal: Mapping[str, object]
    predicted_speedup: float | None = None
    layers: tuple[PrunedLayer, ...] = ()
    table: tuple[TablePoint, ...] = ()
    repair: Mapping[str, object] | None = None
    recovery: RecoveryFacts | None = None
    sensitivity: tuple[SensitivityRow, ...] = ()
    tried: tuple[Cut, ...] = ()
    #: What ``latency`` was measured at: ``batch, length, threads``.
    workload: Mapping[str, object] = field(default_factory=dict)
    #: How quiet the machine was meanwhile.
    noise: Noise | None = None
    #: The rows for verdicts that would settle an inconclusive result.
    samples_needed: int | None = None
    #: Why the pruned model was not timed on its target; None where it was.
    not_run: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    #: The name of the original.
    source: str = ""
    #: The command that makes this result again.
    command: str | None = None
