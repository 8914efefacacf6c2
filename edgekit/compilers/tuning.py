"""Chooses session options by measuring them against each other on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.compilers.records import Candidate, Choice
from edgekit.core.errors import BundleError, SessionError
from edgekit.core.manifest import Component
from edgekit.evaluation.ratios import RatioEstimate, ratio
from edgekit.runtime.engines import find_engine
from edgekit.runtime.session import Array, Session
from edgekit.runtime.timing import come_to_rest, take_turn

_FEWEST_ROUNDS = 6
_MOST_ROUNDS = 40
_TURN_SECONDS = 0.04


@dataclass(frozen=True)
class _Timed:
    """A candidate, its median of every round in seconds, and the precision it computed in."""

    candidate: Candidate
    rounds: NDArray[np.float64]
    precision: str

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.candidate.name,
            "p50_ms": round(float(np.median(self.rounds)) * 1e3, 4),
            "precision": self.precision,
            "eligible": self.candidate.eligible,
        }


def tune(
    bundle_dir: Path,
    component: Component,
    feeds: Mapping[str, Array],
    candidates: Sequence[Candidate],
    *,
    engine: str,
    device: str,
    threads: int | None,
    workload: Mapping[str, int],
    seconds: float = 4.0,
    seed: int = 0,
) -> Choice:
    """The candidate to ship, measured on `feeds` in turns of random order for about `seconds`.

    The first one stays unless another is resolved faster (its whole interval above 1) by at least
    its ``least_gain``. One that this machine does not open is left out and named. ``chosen_by``
    says ``what`` was chosen ``against`` the best alternative and the ``ratio`` of their times:
    above 1, the choice is the faster one.

    Raises SessionError or BundleError when the first one does not open or run.
    """
    first = candidates[0]
    if len(candidates) == 1:
        told = {"what": first.name, "workload": dict(workload), "threads": threads}
        return Choice(first.options, told)
    sessions: list[tuple[Candidate, Session]] = []
    refused: dict[str, str] = {}
    try:
        for candidate in candidates:
            # The device stands in the manifest's options and is an argument of its own here.
            options = {key: item for key, item in candidate.options.items() if key != "device"}
            try:
                session = find_engine(engine).open_session(
                    bundle_dir, component, options=options, device=device, threads=threads
                )
            except (SessionError, BundleError) as error:
                if candidate is first:
                    raise
                refused[candidate.name] = error.message
            else:
                sessions.append((candidate, session))
        timed = _interleave(sessions, feeds, seconds, np.random.default_rng(seed))
    finally:
        for _, session in sessions:
            session.close()
    return _choose(
        timed,
        refused,
        {"workload": dict(workload), "threads": threads},
        seed,
    )


def _interleave(
    sessions: Sequence[tuple[Candidate, Session]],
    feeds: Mapping[str, Array],
    seconds: float,
    random: np.random.Generator,
) -> list[_Timed]:
    """All candidates once a round, in a new order each; a slow model gets the fewest rounds."""
    runs = [partial(session.run, feeds) for _, session in sessions]
    for run in runs:
        run()
    medians: list[list[float]] = [[] for _ in runs]
    deadline = time.perf_counter() + seconds
    for done in range(_MOST_ROUNDS):
        if done >= _FEWEST_ROUNDS and time.perf_counter() >= deadline:
            break
        for index in random.permutation(len(runs)):
            # A pool that still spins would take a core from the next one's turn.
            come_to_rest()
            turn = take_turn(runs[index], seconds=_TURN_SECONDS, least=1, discard=1)
            medians[index].append(float(np.median(turn.nanoseconds)) / 1e9)
    return [
        _Timed(candidate, np.asarray(own), str(session.facts().get("precision", "")))
        for (candidate, session), own in zip(sessions, medians, strict=True)
    ]


def _speedup(slow: _Timed, fast: _Timed, seed: int) -> RatioEstimate:
    """Paired by round, because what disturbs one round disturbs both."""
    return ratio(list(slow.rounds[:, None]), list(fast.rounds[:, None]), seed=seed)


def _choose(
    timed: Sequence[_Timed],
    refused: Mapping[str, str],
    conditions: Mapping[str, object],
    seed: int,
) -> Choice:
    chosen, gain = timed[0], 1.0
    for other in timed[1:]:
        found = _speedup(timed[0], other, seed)
        wins = found.low > 1 and found.value >= max(gain, other.candidate.least_gain)
        if other.candidate.eligible and wins:
            chosen, gain = other, found.value
    chosen_by: dict[str, object] = {"what": chosen.candidate.name}
    # Those that could have been taken come before those that were measured for the record.
    others = sorted(
        (item for item in timed if item is not chosen),
        key=lambda item: (not item.candidate.eligible, float(np.median(item.rounds))),
    )
    if others:
        found = _speedup(others[0], chosen, seed)
        chosen_by |= {
            "against": others[0].candidate.name,
            "ratio": round(found.value, 4),
            "low": round(found.low, 4),
            "high": round(found.high, 4),
        }
    chosen_by |= conditions
    chosen_by["rounds"] = len(chosen.rounds)
    chosen_by["measured"] = [item.to_json() for item in timed]
    if refused:
        chosen_by["refused"] = dict(refused)
    return Choice(chosen.candidate.options, chosen_by)
