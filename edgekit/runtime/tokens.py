"""When the tokens of an answer came: noted in a measuring child, told, and summed up in a row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np

from edgekit.core.measurements import Percentiles
from edgekit.runtime import timing
from edgekit.runtime.conversation import ChildFailed
from edgekit.runtime.session import Array

#: Answers a request; what it is given is to be called whenever a token has come.
Answer: TypeAlias = Callable[[Callable[[], object]], Mapping[str, Array]]
#: What a turn is compared by, besides its whole requests.
TokenMeasure = Literal["first_token", "token"]
TOKEN_MEASURES: tuple[TokenMeasure, ...] = ("first_token", "token")

# More steps of one turn would only fill the pipe.
_MOST_STEPS = 4000


class Request:
    """One request to a model that generates, as a call that notes when each of its tokens came.

    Safe to call from many threads at once.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._marks: list[list[int]] = []

    def __call__(self) -> Mapping[str, Array]:
        """The answer, as its model's measurable describes it."""
        marks: list[int] = []
        begun = time.perf_counter_ns()
        outputs = self._answer(lambda: marks.append(time.perf_counter_ns()))
        self._marks.append([begun, *marks])
        return outputs

    def taken(self) -> list[list[int]]:
        """The requests since this was asked last: when each began, and its tokens came, in ns."""
        found, self._marks = self._marks, []
        return found


def last_requests(requests: Sequence[Request], count: int) -> dict[str, object]:
    """The latest `count` calls of some requests, as a child tells them, in nanoseconds.

    ``first_token_ns`` has one entry per call, ``token_ns`` one per token after the first; of very
    many steps whole calls are left out, evenly, for a step's time depends on its place in one.
    """
    called = sorted(marks for request in requests for marks in request.taken())
    called = called[max(0, len(called) - count) :]
    steps = sum(len(marks) - 2 for marks in called)
    kept = called[:: max(1, math.ceil(steps / _MOST_STEPS))]
    return {
        "first_token_ns": [marks[1] - marks[0] for marks in called],
        "token_ns": [after - before for marks in kept for before, after in pairwise(marks[1:])],
    }


@dataclass(frozen=True)
class TokenTurn:
    """The waits for a first token in one turn, and the times of the tokens after it, in ms."""

    first: timing.Floats
    steps: timing.Floats

    @classmethod
    def of(cls, reply: Mapping[str, object]) -> TokenTurn | None:
        """What a child told of a turn; None of a model that does not generate.

        Raises ChildFailed for what is no list of times.
        """
        if "first_token_ns" not in reply:
            return None
        return cls(_times(reply["first_token_ns"]), _times(reply.get("token_ns")))

    def of_measure(self, measure: TokenMeasure) -> timing.Floats:
        """The times that a measure compares."""
        return self.first if measure == "first_token" else self.steps


def _times(value: object) -> timing.Floats:
    try:
        found = np.asarray(value, dtype=np.float64) / 1e6
    except (TypeError, ValueError) as error:
        raise ChildFailed(f"it sent {value!r} where times of tokens were expected") from error
    if found.ndim != 1:
        raise ChildFailed(f"it sent {value!r} where times of tokens were expected")
    return found


@dataclass(frozen=True)
class TokenFigures:
    """What the tokens of one workload came to; see `edgekit.core.measurements.Contender`."""

    first: Percentiles | None = None
    token: Percentiles | None = None
    per_second: float | None = None


def token_figures(processes: Sequence[Sequence[TokenTurn]], batch: int) -> TokenFigures:
    """The figures of the turns of every process; empty ones where there are none."""
    first, steps = (
        [np.concatenate([turn.of_measure(measure) for turn in turns]) for turns in processes]
        if all(processes)
        else []
        for measure in TOKEN_MEASURES
    )
    timed = bool(steps) and all(len(times) for times in steps)
    return TokenFigures(
        first=_percentiles(first),
        token=_percentiles(steps),
        per_second=batch * 1e3 / float(np.mean([times.mean() for times in steps]))
        if timed
        else None,
    )


def _percentiles(processes: Sequence[timing.Floats]) -> Percentiles | None:
    if not processes or not all(len(times) for times in processes):
        return None
    median = timing.percentile(processes, 0.5)
    return None if median is None else Percentiles(median, timing.percentile(processes, 0.9))
