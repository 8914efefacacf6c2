"""Requests answered by the runtime's own loop, for who measures it and compares what it says.

What an answer holds: ``first_logits``, the scores of the first token ``[batch, vocabulary]`` as
the decoder gives them; ``tokens``, ``[batch, new]``; ``gaps``, how far the two best scores of each
token lay apart, after all rules.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from edgekit.runtime.caches import IDS, MASK
from edgekit.runtime.generation.logits import Rule, Scores
from edgekit.runtime.generation.loop import Row
from edgekit.runtime.session import Array

if TYPE_CHECKING:
    from edgekit.runtime.workloads import Workload

#: What a seq2seq answer begins with, among the arrays of a request.
BEGUN = "decoder_input_ids"
#: The arrays of an answer.
FIRST, TOKENS, GAPS = "first_logits", "tokens", "gaps"
#: Where every token but one is forbidden: a number, for infinity is none that could be judged.
FAR = 1e30

#: Puts rules of a watcher around those of a row, given the row's place.
Watch: TypeAlias = Callable[[int, Sequence[Rule]], Sequence[Rule]]
#: The rows of a batch, and an iterator that gives each of them one more token.
Growing: TypeAlias = tuple[Sequence[Row], Generator[Sequence[Row], None, None]]


@runtime_checkable
class Answering(Protocol):
    """A predictor that can be asked with what its model reads."""

    def growing(self, feeds: Mapping[str, Array], count: int, watch: Watch) -> Growing:
        """Greedy answers of `count` tokens, none of which ends before.

        ``feeds`` are those of `edgekit.runtime.generation.requests`. An encoder runs here.
        """
        ...


def answer(
    predictor: Answering,
    workload: Workload,
    came: Callable[[], object] = lambda: None,
    *,
    tokens: bool = True,
    gaps: bool = False,
) -> dict[str, Array]:
    """One request of a workload answered; `came` is called after each token of all rows."""
    count = workload.new_tokens or 1
    firsts = [_First() for _ in range(workload.batch)]
    apart = [_Gaps() for _ in range(workload.batch)]

    def watch(place: int, rules: Sequence[Rule]) -> Sequence[Rule]:
        return (firsts[place], *rules, *((apart[place],) if gaps else ()))

    rows, growing = predictor.growing(workload.feeds, count, watch)
    for _ in growing:
        came()
    found: dict[str, Array] = {FIRST: np.stack([one.scores for one in firsts])}
    if tokens:
        said = np.full((len(rows), count), -1, dtype=np.int64)
        for own, row in zip(said, rows, strict=True):
            own[: len(row.new)] = row.new
        found[TOKENS] = said
    if gaps:
        found[GAPS] = np.array([one.found for one in apart], dtype=np.float32)
    return found


def prompts_of(feeds: Mapping[str, Array]) -> list[list[int]]:
    """The tokens of each row of a request of texts, without padding."""
    return [
        ids[mask.astype(bool)].tolist() for ids, mask in zip(feeds[IDS], feeds[MASK], strict=True)
    ]


def gap(scores: Scores) -> float:
    """How far the two best of a row's scores lie apart."""
    second, best = np.partition(scores, -2)[-2:]
    return min(float(best - second), FAR)


class _First:
    """The scores of a row's first token; the first of its rules."""

    def __init__(self) -> None:
        self.scores: Scores = np.zeros(0, np.float32)

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        if not len(self.scores):
            self.scores = scores.copy()


class _Gaps:
    """How far a row's best scores lay apart, token by token; the last of its rules."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        self.found.append(gap(scores))
