"""Rounds of fresh processes that take turns: how contenders are measured side by side.

A round starts one process of every contender, in random order, each alone until it has loaded and
warmed up. Then they take short turns, in a new random order every time, while the others sleep in
a read: what disturbs the machine for a second disturbs all of them. All processes of a round are
in memory together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edgekit.runtime.bench import OPEN_TIMEOUT, WARM_SECONDS
from edgekit.runtime.conversation import Child, ChildFailed
from edgekit.runtime.records import Record, plan_turns

Item = TypeVar("Item")


@dataclass(frozen=True)
class Entrant:
    """A contender as a command that starts one measuring process of it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How much is measured. ``budget`` counts the seconds of timed turns, start-up excluded."""

    workloads: int
    processes: int
    budget: float
    seed: int = 0
    warm_seconds: float = WARM_SECONDS
    timeout: float = OPEN_TIMEOUT


def run_rounds(
    entrants: Sequence[Entrant],
    plan: Plan,
    *,
    folder: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Record]:
    """What was measured of each entrant, by name.

    An entrant whose process crashes, hangs or answers nonsense gets an ``error`` and is out; the
    others go on. Whatever ends this function, none of the processes outlives it.
    """
    records = {entrant.name: Record(entrant.name) for entrant in entrants}
    generator = random.Random(plan.seed)
    share = plan.budget / (plan.processes * plan.workloads * len(entrants))
    for number in range(plan.processes):
        progress(f"Round {number + 1} of {plan.processes}")
        with ExitStack() as stack:
            running = _Round(number, records, plan, generator)
            for entrant in _shuffled(generator, entrants):
                if records[entrant.name].error is None:
                    errors = folder / f"{number}-{entrants.index(entrant)}.stderr"
                    child = stack.enter_context(
                        Child(entrant.command, stderr=errors, environment=entrant.environment)
                    )
                    running.admit(entrant.name, child)
            # Each workload opens some rounds: only there is its first inference cold.
            for step in range(plan.workloads):
                running.measure((number + step) % plan.workloads, share)
            running.finish()
    return records


class _Round:
    """The children of one round that are still in it."""

    def __init__(
        self, number: int, records: Mapping[str, Record], plan: Plan, generator: random.Random
    ) -> None:
        self._number = number
        self._records = records
        self._plan = plan
        self._generator = generator
        self._children: dict[str, Child] = {}

    def admit(self, name: str, child: Child) -> None:
        """Let a fresh child load, alone."""
        self._children[name] = child
        first = self._number % self._plan.workloads
        self._try(name, lambda record, one: record.open(one, first, timeout=self._plan.timeout))

    def measure(self, workload: int, share: float) -> None:
        """Warm all children up on a workload, then let them take turns."""
        plan = self._plan
        self._all(
            lambda record, child: record.warm(
                child, workload, seconds=plan.warm_seconds, timeout=plan.timeout
            )
        )
        typical = [self._records[name].typical[workload] for name in self._children]
        if not typical:
            return
        turns, seconds, least = plan_turns(share, max(typical))
        for _ in range(turns):
            self._all(
                lambda record, child: record.measure(
                    child,
                    workload,
                    self._number,
                    seconds=seconds,
                    least=least,
                    timeout=plan.timeout,
                )
            )

    def finish(self) -> None:
        """Let every child tell its peak of memory, and end."""
        self._all(lambda record, child: record.close(child, timeout=self._plan.timeout))

    def _all(self, step: Callable[[Record, Child], None]) -> None:
        for name in _shuffled(self._generator, list(self._children)):
            self._try(name, step)

    def _try(self, name: str, step: Callable[[Record, Child], None]) -> None:
        child = self._children[name]
        try:
            step(self._records[name], child)
        except ChildFailed as failure:
            self._records[name].fail(failure)
            del self._children[name]
            # What hangs must not go on computing beside the others.
            child.kill()


def _shuffled(generator: random.Random, items: Sequence[Item]) -> list[Item]:
    mixed = list(items)
    generator.shuffle(mixed)
    return mixed
