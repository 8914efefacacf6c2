"""What the children of a bench reported, process by process, and the rows of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.core.results import Contender
from edgekit.runtime import timing
from edgekit.runtime.conversation import Child, ChildFailed
from edgekit.runtime.workloads import Workload

_TURN_SECONDS = 0.2
_MOST_TURNS = 20


@dataclass
class Record:
    """What was measured of one contender, process by process.

    ``times[w][r]`` are the milliseconds of workload `w` in round `r`; ``first`` holds, by
    workload, the first inferences of the processes that began with it. All in milliseconds.
    """

    name: str
    error: str | None = None
    error_kind: str | None = None
    facts: dict[str, object] = field(default_factory=dict)
    imports: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    firsts: dict[int, list[float]] = field(default_factory=dict)
    peaks: list[int] = field(default_factory=list)
    peak_reset: bool = True
    times: dict[int, dict[int, list[float]]] = field(default_factory=dict)
    settings: dict[int, list[dict[str, object]]] = field(default_factory=dict)
    typical: dict[int, float] = field(default_factory=dict)
    warm_runs: list[int] = field(default_factory=list)
    warm_flat: list[bool] = field(default_factory=list)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def open(self, child: Child, workload: int, *, timeout: float) -> None:
        """Let a fresh child import, load and run once."""
        reply = child.open(workload, timeout=timeout)
        self.imports.append(_number(reply["import_ms"]))
        self.loads.append(_number(reply["load_ms"]))
        self.firsts.setdefault(workload, []).append(_number(reply["first_ms"]))
        self.peak_reset = self.peak_reset and reply.get("peak_reset") is not False
        self.facts = _facts(reply)

    def warm(self, child: Child, workload: int, *, seconds: float, timeout: float) -> None:
        """Let a child warm up on a workload and find its settings for it."""
        reply = child.ask("warm", workload=workload, seconds=seconds, timeout=timeout + seconds)
        self.typical[workload] = _number(reply["typical_ms"])
        self.warm_runs.append(int(_number(reply["runs"])))
        self.warm_flat.append(bool(reply["flat"]))
        self.facts = _facts(reply)
        self.settings.setdefault(workload, []).append(self.facts)

    def measure(
        self,
        child: Child,
        workload: int,
        round_: int,
        *,
        seconds: float,
        least: int,
        timeout: float,
    ) -> None:
        """Take one turn of timed inferences."""
        reply = child.ask(
            "measure", workload=workload, seconds=seconds, least=least, timeout=timeout + seconds
        )
        found = reply["nanoseconds"]
        if not isinstance(found, list) or not found:
            raise ChildFailed("it sent no times")
        process = self.times.setdefault(workload, {}).setdefault(round_, [])
        process.extend(_number(value) / 1e6 for value in found)
        self.wall_seconds += _number(reply["wall_seconds"])
        self.cpu_seconds += _number(reply["cpu_seconds"])

    def close(self, child: Child, *, timeout: float) -> None:
        """Let a child tell its peak of memory, and end."""
        peak = child.finish(timeout=timeout).get("peak_rss_bytes")
        if peak is not None:
            self.peaks.append(int(_number(peak)))

    def fail(self, failure: ChildFailed) -> None:
        """Note why there is no more of this contender."""
        self.error = str(failure)
        self.error_kind = None if failure.error is None else failure.error.kind

    def peak_note(self) -> str | None:
        """What is wrong with the peak of memory, None when it is what it should be."""
        if self.peak_reset or not self.peaks:
            return None
        return (
            f"The system did not let the peak of memory of {self.name} begin anew after its"
            " imports: what they took at most for a moment may be part of its peak RSS."
        )

    def rounds(self, workload: int) -> list[timing.Floats]:
        """The milliseconds of one workload, process by process."""
        found = self.times.get(workload, {})
        return [np.asarray(found[round_], dtype=np.float64) for round_ in sorted(found)]

    def row(self, index: int, workload: Workload, *, artifact_bytes: int | None) -> Contender:
        """The line of the result for one workload; without numbers when the contender failed."""
        processes = self.rounds(index)
        ok = self.error is None and bool(processes)
        mean = float(np.mean([times.mean() for times in processes])) if ok else 0.0
        return Contender(
            name=self.name,
            engine=str(self.facts.get("engine", "unknown")),
            batch=workload.batch,
            length=workload.length,
            p50_ms=timing.percentile(processes, 0.5) if ok else None,
            p90_ms=timing.percentile(processes, 0.9) if ok else None,
            p95_ms=timing.percentile(processes, 0.95) if ok else None,
            p99_ms=timing.percentile(processes, 0.99) if ok else None,
            throughput=workload.batch * 1e3 / mean if ok else None,
            import_ms=_median(self.imports) if ok else None,
            load_ms=_median(self.loads) if ok else None,
            first_ms=_median(self.firsts.get(index, [])) if ok else None,
            peak_rss_bytes=max(self.peaks) if ok and self.peaks else None,
            artifact_bytes=artifact_bytes,
            samples=sum(len(times) for times in processes) if ok else 0,
            processes=len(processes) if ok else 0,
            error=self.error,
            error_kind=self.error_kind,
        )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ChildFailed(f"it sent {value!r} where a number was expected")
    return float(value)


def _facts(reply: Mapping[str, object]) -> dict[str, object]:
    found = reply.get("facts")
    return dict(found) if isinstance(found, dict) else {}


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def plan_turns(seconds: float, slowest_ms: float) -> tuple[int, float, int]:
    """(turns, seconds of each, least inferences of each) for one process's share of the budget.

    Turns are short, so that contenders that take turns see the same disturbances, and long enough
    for five inferences of the slowest.
    """
    turns = int(seconds / max(_TURN_SECONDS, 5 * slowest_ms / 1e3))
    turns = min(_MOST_TURNS, max(1, turns))
    return turns, seconds / turns, 3 if turns == 1 else 1
