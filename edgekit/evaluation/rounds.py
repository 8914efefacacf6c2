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

# Scenarios draw with it, and numpy would import it in the middle of a round, where that takes time
# from who is measured and a Ctrl-C inside the initialisation of a C extension is lost.
import numpy.random  # noqa: F401

from edgekit.core.errors import MeasurementError
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.outputs import OutputCheck
from edgekit.runtime.bench import OPEN_TIMEOUT, STAGE_SECONDS, WARM_SECONDS
from edgekit.runtime.conversation import Child, ChildFailed
from edgekit.runtime.records import Record
from edgekit.runtime.scenarios import SINGLE_STREAM, Scenario, plan_turns

Item = TypeVar("Item")
Records = Mapping[str, Record]

# A round is over when the next one begins.
_ALMOST = 0.999
# Fewer rounds tell too little of how much processes differ to stop early.
LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Entrant:
    """A contender as a command that starts one measuring process of it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How much is measured. ``budget`` counts the seconds of timed turns, start-up excluded.

    Inferences are requests of many tokens where models are ``generating``.
    """

    workloads: int
    processes: int
    budget: float
    seed: int = 0
    warm_seconds: float = WARM_SECONDS
    timeout: float = OPEN_TIMEOUT
    scenario: Scenario = SINGLE_STREAM
    generating: bool = False


def run_rounds(
    entrants: Sequence[Entrant],
    plan: Plan,
    *,
    folder: Path,
    check: OutputCheck | None = None,
    enough: Callable[[Records], bool] = lambda records: False,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Record]:
    """What was measured of each entrant, by name.

    An entrant whose process crashes, hangs, answers nonsense or does not pass `check` gets an
    ``error`` and is out; the others go on. After the fifth round, and each one later but the
    last, `enough` is asked whether to stop. Whatever ends this function, none of the processes
    outlives it.
    """
    records = {entrant.name: Record(entrant.name) for entrant in entrants}
    generator = random.Random(plan.seed)
    share = plan.budget / (plan.processes * plan.workloads * len(entrants))
    counted = Counted(progress, plan.processes, lines=plan.processes, first=True)
    for number in range(plan.processes):
        if all(record.error is not None for record in records.values()):
            break

        def tell(part: float, number: int = number) -> None:
            timed = sum(record.wall_seconds for record in records.values())
            told = f"Round {number + 1} of {plan.processes}, {timed:.0f} of {plan.budget:g} s timed"
            counted.tell(told, number + min(part, _ALMOST))

        tell(0.0)
        with ExitStack() as stack:
            running = _Round(number, records, plan, generator, check, tell)
            for entrant in _shuffled(generator, entrants):
                if records[entrant.name].error is None:
                    errors = folder / f"{number}-{entrants.index(entrant)}.stderr"
                    child = stack.enter_context(
                        Child(entrant.command, stderr=errors, environment=entrant.environment)
                    )
                    outputs = folder / f"{entrants.index(entrant)}.outputs.safetensors"
                    running.admit(entrant.name, child, outputs)
            running.compare()
            # Each workload opens some rounds: only there is its first inference cold.
            for step in range(plan.workloads):
                running.measure((number + step) % plan.workloads, share)
            running.stages()
            running.finish()
        if LEAST_ROUNDS <= number + 1 < plan.processes and enough(records):
            break
    counted.end()
    return records


class _Round:
    """The children of one round that are still in it."""

    def __init__(
        self,
        number: int,
        records: Records,
        plan: Plan,
        generator: random.Random,
        check: OutputCheck | None,
        tell: Callable[[float], None],
    ) -> None:
        self._number = number
        self._records = records
        self._plan = plan
        self._generator = generator
        self._check = check
        self._children: dict[str, Child] = {}
        self._outputs: dict[str, Path] = {}
        self._tell = tell
        # What is told while one computes would take a processor from it: only between two answers.
        self._expected = sum(record.error is None for record in records.values())
        # Loading, and of each workload the warm-up and the turns, count as much as each other.
        self._width = 1 / (1 + 2 * plan.workloads)
        self._behind = 0.0

    def admit(self, name: str, child: Child, outputs: Path) -> None:
        """Let a fresh child load, alone; in the first round it leaves its outputs in a file."""
        self._children[name] = child
        first = self._number % self._plan.workloads
        wanted = outputs if self._check is not None and self._number == 0 else None
        if wanted is not None:
            self._outputs[name] = wanted
        self._try(
            name,
            lambda record, one: record.open(one, first, timeout=self._plan.timeout, outputs=wanted),
        )
        self._reach(self._width / self._expected)

    def compare(self) -> None:
        """Disqualify the children that answer otherwise than the base, in the first round."""
        if self._check is None or not self._outputs:
            return
        given = {name: path for name, path in self._outputs.items() if name in self._children}
        for name, reason in self._check.compare(self._records, given).items():
            self._out(name, _disqualified(reason))
        for path in self._outputs.values():
            path.unlink(missing_ok=True)

    def measure(self, workload: int, share: float) -> None:
        """Warm all children up on a workload, then let them take turns."""
        plan = self._plan
        self._all(
            lambda record, child: record.warm(
                child, workload, seconds=plan.warm_seconds, timeout=plan.timeout
            ),
            width=self._width,
        )
        typical = [self._records[name].typical[workload] for name in self._children]
        if not typical:
            return
        turns, seconds, least = plan_turns(
            share, max(typical), plan.scenario, generating=plan.generating
        )

        def take_turn(record: Record, child: Child) -> None:
            record.measure(
                child,
                workload,
                self._number,
                seconds=seconds,
                least=least,
                timeout=plan.timeout,
                scenario=plan.scenario,
            )
            reason = None if self._check is None else self._check.moved(record, workload)
            if reason is not None:
                raise _disqualified(reason)

        for _ in range(turns):
            self._all(take_turn, width=self._width / turns)

    def stages(self) -> None:
        """Let all children tell the stages of every workload, when all is measured."""
        for workload in range(self._plan.workloads):
            self._all(
                lambda record, child, at=workload: record.measure_stages(  # type: ignore[misc]
                    child, at, seconds=STAGE_SECONDS, timeout=self._plan.timeout
                )
            )

    def finish(self) -> None:
        """Let every child tell its peak of memory, and end."""
        self._all(lambda record, child: record.close(child, timeout=self._plan.timeout))

    def _all(self, step: Callable[[Record, Child], None], *, width: float = 0.0) -> None:
        """One step of every child in random order, which is so much of the round."""
        names = _shuffled(self._generator, list(self._children))
        for name in names:
            self._try(name, step)
            self._reach(width / len(names))

    def _reach(self, part: float) -> None:
        """Tell that another part of the round is over."""
        self._behind += part
        self._tell(self._behind)

    def _try(self, name: str, step: Callable[[Record, Child], None]) -> None:
        try:
            step(self._records[name], self._children[name])
        except ChildFailed as failure:
            self._out(name, failure)

    def _out(self, name: str, failure: ChildFailed) -> None:
        self._records[name].fail(failure)
        # What hangs must not go on computing beside the others.
        self._children.pop(name).kill()


def _disqualified(reason: str) -> ChildFailed:
    return ChildFailed(reason, error=MeasurementError(reason))


def _shuffled(generator: random.Random, items: Sequence[Item]) -> list[Item]:
    mixed = list(items)
    generator.shuffle(mixed)
    return mixed
