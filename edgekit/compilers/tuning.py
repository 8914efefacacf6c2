"""Chooses session options by measuring them against each other on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from edgekit.runtime.timing import come_to_rest, heap_set_aside, take_turn

_FEWEST_ROUNDS = 6
_MOST_ROUNDS = 40
_TURN_SECONDS = 0.04
# Of weights in all sessions that are open at once: each session holds its own.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class _Timed:
    """A candidate, its median of every round in seconds, and what its session ran with."""

    candidate: Candidate
    rounds: NDArray[np.float64]
    precision: str
    threads: object

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.candidate.name,
            "p50_ms": round(float(np.median(self.rounds)) * 1e3, 4),
            "precision": self.precision,
            "threads": self.threads,
            "eligible": self.candidate.eligible,
        }


@dataclass(frozen=True)
class _Conditions:
    """What all candidates of a choice are measured with."""

    bundle_dir: Path
    component: Component
    feeds: Mapping[str, Array]
    engine: str
    device: str
    threads: int | None
    seconds: float
    seed: int

    def open(self, candidate: Candidate) -> Session:
        """A session of its own, with the threads that the candidate names where it does."""
        # The device stands in the manifest's options and is an argument of its own here.
        options = {key: item for key, item in candidate.options.items() if key != "device"}
        own = options.get("threads")
        return find_engine(self.engine).open_session(
            self.bundle_dir,
            self.component,
            options=options,
            device=self.device,
            # Told like this, a number stands over that of the options.
            threads=own if isinstance(own, int) else self.threads,
        )

    def opened(self, candidate: Candidate) -> Session:
        """The same, run once: lengths that a graph counts in bf16 break it only then."""
        session = self.open(candidate)
        try:
            session.run(self.feeds)
        except BaseException:
            session.close()
            raise
        return session

    def affordable(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """As many of the first ones as may be in memory together, and two in any case."""
        files = [self.bundle_dir / file for file in self.component.files]
        size = sum(file.stat().st_size for file in files if file.is_file())
        return candidates[: max(2, _MOST_BYTES // max(1, size))]


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
    its ``least_gain``, and is so again in fresh rounds: the best of several looks faster than it
    is. What follows from the chosen one is then measured against it in the same way. One that this
    machine does not open or run is left out and named. ``chosen_by`` says ``what`` was chosen
    ``against`` the best alternative and the ``ratio`` of their times (above 1, the choice is the
    faster one), and with ``before`` the same of the choice that this one followed from.

    Raises SessionError or BundleError when the first one does not open or run.
    """
    told: dict[str, object] = {"workload": dict(workload), "threads": threads}
    conditions = _Conditions(bundle_dir, component, feeds, engine, device, threads, seconds, seed)
    chosen = candidates[0]
    listed = tuple(candidates) if len(candidates) > 1 else _following(chosen)
    chosen_by: dict[str, object] = {"what": chosen.name, **told}
    before: dict[str, object] = {}
    while len(listed) > 1:
        chosen, found = _step(conditions, listed)
        chosen_by = {**found, **told, **before}
        before = {"before": found}
        listed = _following(chosen)
    return Choice(chosen.options, chosen_by)


def _following(chosen: Candidate) -> tuple[Candidate, ...]:
    return (replace(chosen, then=()), *chosen.then)


def _step(
    conditions: _Conditions, listed: Sequence[Candidate]
) -> tuple[Candidate, dict[str, object]]:
    """The winner of some candidates and what it was chosen by."""
    candidates = conditions.affordable(listed)
    sessions: list[tuple[Candidate, Session]] = []
    refused: dict[str, str] = {}
    random = np.random.default_rng(conditions.seed)
    try:
        for candidate in candidates:
            try:
                sessions.append((candidate, conditions.opened(candidate)))
            except (SessionError, BundleError) as error:
                if candidate is candidates[0]:
                    raise
                refused[candidate.name] = error.message
        again: RatioEstimate | None = None
        with heap_set_aside():
            timed = _interleave(sessions, conditions.feeds, conditions.seconds, random)
            best = _best(timed, conditions.seed)
            if best:
                first, other = _interleave(
                    [sessions[0], sessions[best]], conditions.feeds, conditions.seconds / 2, random
                )
                again = _speedup(first, other, conditions.seed)
                best = best if _gains(again, other.candidate) else 0
    finally:
        for _, session in sessions:
            session.close()
    found = _told(timed, best, conditions.seed)
    if again is not None:
        # Of the one that was best at first against the preferred one.
        found["again"] = _interval(again)
    if refused:
        found["refused"] = refused
    left_out = [candidate.name for candidate in listed[len(candidates) :]]
    if left_out:
        found["left_out"] = left_out
    return timed[best].candidate, found


def _interleave(
    sessions: Sequence[tuple[Candidate, Session]],
    feeds: Mapping[str, Array],
    seconds: float,
    random: np.random.Generator,
) -> list[_Timed]:
    """All candidates once a round, in a new order each; a slow model gets the fewest rounds."""
    runs = [partial(session.run, feeds) for _, session in sessions]
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
        _Timed(
            candidate,
            np.asarray(own),
            str(session.facts().get("precision", "")),
            session.facts().get("threads"),
        )
        for (candidate, session), own in zip(sessions, medians, strict=True)
    ]


def _speedup(slow: _Timed, fast: _Timed, seed: int) -> RatioEstimate:
    """Paired by round, because what disturbs one round disturbs both."""
    return ratio(list(slow.rounds[:, None]), list(fast.rounds[:, None]), seed=seed)


def _gains(found: RatioEstimate, candidate: Candidate) -> bool:
    return candidate.eligible and found.low > 1 and found.value >= candidate.least_gain


def _best(timed: Sequence[_Timed], seed: int) -> int:
    """The place of the one that is faster than the first by most; 0 where none is by enough."""
    best, gain = 0, 1.0
    for place, other in enumerate(timed[1:], start=1):
        found = _speedup(timed[0], other, seed)
        if _gains(found, other.candidate) and found.value >= gain:
            best, gain = place, found.value
    return best


def _interval(found: RatioEstimate) -> dict[str, float]:
    return {
        "ratio": round(found.value, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
    }


def _told(timed: Sequence[_Timed], best: int, seed: int) -> dict[str, object]:
    chosen = timed[best]
    told: dict[str, object] = {"what": chosen.candidate.name}
    # Those that could have been taken come before those that were measured for the record.
    others = sorted(
        (item for item in timed if item is not chosen),
        key=lambda item: (not item.candidate.eligible, float(np.median(item.rounds))),
    )
    if others:
        told["against"] = others[0].candidate.name
        told |= _interval(_speedup(others[0], chosen, seed))
    told["rounds"] = len(chosen.rounds)
    told["measured"] = [item.to_json() for item in timed]
    return told
