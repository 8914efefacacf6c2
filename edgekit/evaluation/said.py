"""What contenders that generate have said, token by token, compared with the base of a bench.

In float32 the same tokens are expected. Two models whose scores agree within tolerance may still
choose differently where the two best scores lie nearer to each other than that, and go different
ways from there: such a token is no fault. A coarser precision moves scores by more than many gaps
between two tokens: it is held to the scores of the first token alone, which no choice before them
could have changed, and how many tokens are the same is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.core.tolerance import Tolerance
from edgekit.runtime.generation.answering import FIRST, GAPS, TOKENS
from edgekit.runtime.session import Array

Answers = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Parting:
    """Where an answer leaves that of the base: at the token `place`, from 1.

    ``gap`` is how far the two best scores lay apart there, ``allowed`` how far a tolerance lets
    them.
    """

    place: int
    token: int
    wanted: int
    gap: float
    allowed: float

    @property
    def excused(self) -> bool:
        """Whether the choice was between scores that are the same within tolerance."""
        return self.gap <= self.allowed


@dataclass(frozen=True)
class Said:
    """How the tokens of two contenders compare, over all workloads.

    ``same`` of ``count`` tokens stand before the first other one; ``worst`` is the parting with the
    widest gap, None where there is none or no tolerance bounds it.
    """

    same: int
    count: int
    worst: Parting | None


def without_tokens(answers: Answers) -> tuple[dict[str, Array], ...]:
    """The answers without what is compared here."""
    return tuple(
        {
            name: array
            for name, array in one.items()
            if not _spoken(one) or name not in (TOKENS, GAPS)
        }
        for one in answers
    )


def compare_said(base: Answers, other: Answers, rule: Tolerance) -> Said | None:
    """What two contenders have said; None where they are none that generate."""
    partings: list[Parting] = []
    same = count = 0
    for ours, theirs in zip(base, other, strict=True):
        if not _spoken(ours) or not _spoken(theirs):
            continue
        wanted, given = ours[TOKENS], theirs[TOKENS]
        if wanted.shape != given.shape:
            return Said(0, wanted.size, Parting(1, -1, -1, float("inf"), 0.0))
        allowed = _allowed(ours, rule)
        for row, (first, second) in enumerate(zip(wanted, given, strict=True)):
            other_at = np.flatnonzero(first != second)
            count += len(first)
            same += int(other_at[0]) if len(other_at) else len(first)
            if not len(other_at):
                continue
            at = int(other_at[0])
            gaps = [float(one[GAPS][row, at]) for one in (ours, theirs) if GAPS in one]
            partings.append(
                Parting(at + 1, int(second[at]), int(first[at]), min(gaps, default=0.0), allowed)
            )
    if not count:
        return None
    bounded = rule.kind == "max_abs"
    worst = max(partings, key=lambda one: one.gap) if partings and bounded else None
    return Said(same, count, worst)


def _spoken(answer: Mapping[str, Array]) -> bool:
    """Whether it is the answer to a request: other models may call their outputs as they like."""
    return FIRST in answer and TOKENS in answer


def _allowed(answers: Mapping[str, Array], rule: Tolerance) -> float:
    """How near two scores are that a tolerance cannot tell apart: both may move by its most."""
    scores = answers[FIRST]
    return 2 * rule.most(float(np.abs(scores).max()) if scores.size else 0.0)
