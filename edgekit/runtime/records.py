"""What the children of a bench reported, process by process, and the rows of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgekit.core.measurements import Contender, Ecdf, Stages
from edgekit.core.tolerance import Tolerance
from edgekit.runtime import timing
from edgekit.runtime.conversation import Child, ChildFailed
from edgekit.runtime.drift import Drift
from edgekit.runtime.scenarios import SINGLE_STREAM, Scenario
from edgekit.runtime.tokens import TokenMeasure, TokenTurn, token_figures
from edgekit.runtime.workloads import Workload

# Below this share of the offered rate, a device did not keep up.
_KEPT_UP = 0.98


@dataclass(frozen=True)
class TurnSums:
    """What one turn came to: ``busy_seconds`` is the time in which there was something to do.

    ``given_up`` counts requests of a server that nobody answered.
    """

    inferences: int
    wall_seconds: float
    cpu_seconds: float
    busy_seconds: float
    samples: int
    given_up: int = 0


@dataclass
class Record:
    """What was measured of one contender, process by process.

    ``times[w][r]`` are the milliseconds of workload `w` in round `r`, ``turns[w][r]`` the sums of
    its turns; ``firsts`` holds, by workload, the first inferences of the processes that began with
    it, in milliseconds, ``contexts`` the peaks of memory of their first requests. ``tokens`` are
    those of ``turns`` that came one by one. ``drifts[w]`` has one entry per turn, ``stages[w]`` one
    per process; ``restless`` counts the turns after which the process went on computing.
    """

    name: str
    error: str | None = None
    error_kind: str | None = None
    facts: dict[str, object] = field(default_factory=dict)
    imports: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    firsts: dict[int, list[float]] = field(default_factory=dict)
    contexts: dict[int, list[int]] = field(default_factory=dict)
    peaks: list[int] = field(default_factory=list)
    pss_peaks: list[int] = field(default_factory=list)
    peak_reset: bool = True
    restless: int = 0
    scenario: Scenario = SINGLE_STREAM
    turns: dict[int, dict[int, list[TurnSums]]] = field(default_factory=dict)
    tokens: dict[int, dict[int, list[TokenTurn]]] = field(default_factory=dict)
    stages: dict[int, list[Stages]] = field(default_factory=dict)
    drifts: dict[int, list[Drift]] = field(default_factory=dict)
    streams: dict[int, list[int]] = field(default_factory=dict)
    times: dict[int, dict[int, list[float]]] = field(default_factory=dict)
    settings: dict[int, list[dict[str, object]]] = field(default_factory=dict)
    typical: dict[int, float] = field(default_factory=dict)
    warm_runs: list[int] = field(default_factory=list)
    warm_flat: list[bool] = field(default_factory=list)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    busy_seconds: float = 0.0

    def open(
        self, child: Child, workload: int, *, timeout: float, outputs: Path | None = None
    ) -> None:
        """Let a fresh child import, load and run once.

        With `outputs` it writes what it answers to every workload there (see `load_outputs`).
        """
        reply = child.open(workload, timeout=timeout, outputs=outputs)
        self.imports.append(_number(reply["import_ms"]))
        self.loads.append(_number(reply["load_ms"]))
        self.firsts.setdefault(workload, []).append(_number(reply["first_ms"]))
        if reply.get("context_rss_bytes") is not None:
            held = int(_number(reply["context_rss_bytes"]))
            self.contexts.setdefault(workload, []).append(held)
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
        scenario: Scenario = SINGLE_STREAM,
    ) -> None:
        """Take one turn of timed inferences.

        In the server scenario the same turn of every contender has the same arrivals.
        """
        self.scenario = scenario
        sums = self.turns.setdefault(workload, {}).setdefault(round_, [])
        reply = child.ask(
            "measure",
            workload=workload,
            seconds=seconds,
            least=least,
            turn=[round_, len(sums)],
            scenario=scenario.turn(workload, round_, len(sums)).to_json(),
            # A queue that grows, and rare requests, take longer than the turn was meant to.
            timeout=timeout + 2 * seconds + least * _rarest(scenario),
        )
        found = reply["nanoseconds"]
        if not isinstance(found, list) or not found:
            raise ChildFailed("it sent no times")
        process = self.times.setdefault(workload, {}).setdefault(round_, [])
        process.extend(_number(value) / 1e6 for value in found)
        turn = TurnSums(
            inferences=int(_number(reply["inferences"])),
            wall_seconds=_number(reply["wall_seconds"]),
            cpu_seconds=_number(reply["cpu_seconds"]),
            busy_seconds=_number(reply["busy_seconds"]),
            samples=len(found),
            given_up=int(_number(reply.get("given_up", 0))),
        )
        sums.append(turn)
        told = TokenTurn.of(reply)
        if told is not None:
            self.tokens.setdefault(workload, {}).setdefault(round_, []).append(told)
        self.restless += reply.get("at_rest") is False
        self.wall_seconds += turn.wall_seconds
        self.cpu_seconds += turn.cpu_seconds
        self.busy_seconds += turn.busy_seconds
        if isinstance(reply.get("streams"), int):
            self.streams.setdefault(workload, []).append(int(_number(reply["streams"])))
        moved = reply.get("drift")
        if isinstance(moved, dict):
            try:
                self.drifts.setdefault(workload, []).append(Drift.from_json(moved))
            except (KeyError, TypeError, ValueError) as error:
                raise ChildFailed(f"it sent {moved!r} where a drift was expected") from error

    def measure_stages(
        self, child: Child, workload: int, *, seconds: float, timeout: float
    ) -> None:
        """Let a child tell preprocessing, engine and postprocessing of a prediction apart.

        Contenders without a processor, and workloads without texts or pictures, have no stages.
        """
        reply = child.ask("stages", workload=workload, seconds=seconds, timeout=timeout + seconds)
        if "engine_ms" in reply:
            self.stages.setdefault(workload, []).append(
                Stages(
                    preprocess_ms=_number(reply["preprocess_ms"]),
                    engine_ms=_number(reply["engine_ms"]),
                    postprocess_ms=_number(reply["postprocess_ms"]),
                    decode_ms=_number(reply["decode_ms"]) if "decode_ms" in reply else None,
                )
            )

    def close(self, child: Child, *, timeout: float) -> None:
        """Let a child run what is largest, tell its peaks of memory, and end."""
        child.ask("largest", timeout=timeout)
        reply = child.finish(timeout=timeout)
        for key, peaks in (("peak_rss_bytes", self.peaks), ("peak_pss_bytes", self.pss_peaks)):
            if reply.get(key) is not None:
                peaks.append(int(_number(reply[key])))

    def fail(self, failure: ChildFailed) -> None:
        """Note why there is no more of this contender."""
        self.error = str(failure)
        self.error_kind = None if failure.error is None else failure.error.kind

    def restless_note(self) -> str | None:
        """That it disturbed the others, None when it was at rest while they took their turns."""
        if not self.restless:
            return None
        return (
            f"{self.name} went on computing after {self.restless} of its turns: what the others"
            " took then may be too long."
        )

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

    def turn_times(self, workload: int) -> list[list[timing.Floats]]:
        """What ratios are made of: milliseconds, by process and turn.

        Offline a turn is one number, that of the whole turn per inference: 1,000 over throughput,
        which counts callers that ran at the same time.
        """
        found: list[list[timing.Floats]] = []
        for round_, sums in sorted(self.turns.get(workload, {}).items()):
            if self.scenario.name == "offline":
                found.append(
                    [np.array([turn.wall_seconds * 1e3 / turn.inferences]) for turn in sums]
                )
                continue
            times = np.asarray(self.times[workload][round_], dtype=np.float64)
            found.append(np.split(times, np.cumsum([turn.samples for turn in sums])[:-1]))
        return found

    def token_times(self, workload: int, measure: TokenMeasure) -> list[list[timing.Floats]]:
        """What ratios of first tokens, or of those after them, are made of; see `turn_times`."""
        found = self.tokens.get(workload, {})
        return [[turn.of_measure(measure) for turn in found[round_]] for round_ in sorted(found)]

    def cpu_share(self) -> float | None:
        """CPU seconds per second in which there was something to answer; None before any turn."""
        return self.cpu_seconds / self.busy_seconds if self.busy_seconds else None

    def drifted(self, workload: int, rule: Tolerance, *, last: bool = False) -> Drift | None:
        """The first change of answers, from those at first, that a tolerance does not allow.

        With `last` only the last turn is looked at, by who asks after every one.
        """
        found = self.drifts.get(workload, [])[-1 if last else 0 :]
        return next((drift for drift in found if not drift.within(rule)), None)

    def reached_qps(self, workload: int) -> float | None:
        """Requests per second that were answered of those offered; None in other scenarios.

        One is answered at a time, so the rate is limited by the time that answering takes.
        """
        sums = [turn for turns in self.turns.get(workload, {}).values() for turn in turns]
        if self.scenario.qps is None or not sums:
            return None
        busy = sum(turn.busy_seconds for turn in sums)
        return min(self.scenario.qps, sum(turn.inferences for turn in sums) / max(busy, 1e-9))

    def kept_up(self, workload: int) -> bool:
        """Whether requests were answered as fast as they came; True in other scenarios."""
        reached, offered = self.reached_qps(workload), self.scenario.qps
        return reached is None or offered is None or reached >= _KEPT_UP * offered

    def overload_note(self, index: int, workload: Workload) -> str | None:
        """That requests of a workload came too fast or were given up, None where all is well."""
        given_up = sum(self._given_up(index))
        if self.kept_up(index) and given_up:
            return (
                f"{self.name} was held up at {workload.name} until {given_up} requests that waited"
                " were given up: the percentiles count them as slower than all others."
            )
        if self.kept_up(index):
            return None
        return (
            f"{self.name} did not keep up with {self.scenario.qps:g} requests per second at"
            f" {workload.name}: the highest rate it reached is {self.reached_qps(index):.3g}. Its"
            " latencies grew for as long as it was measured, and the requests that waited longest"
            " were given up: p90, p95 and p99 would leave them out and are not told."
        )

    def row(self, index: int, workload: Workload, *, artifact_bytes: int | None) -> Contender:
        """The line of the result for one workload; without numbers when the contender failed."""
        processes = self.rounds(index)
        empty = Contender(
            name=self.name,
            engine=str(self.facts.get("engine", "unknown")),
            batch=workload.batch,
            length=workload.length,
            p50_ms=None,
            p90_ms=None,
            p95_ms=None,
            p99_ms=None,
            throughput=None,
            import_ms=None,
            load_ms=None,
            first_ms=None,
            peak_rss_bytes=None,
            artifact_bytes=artifact_bytes,
            samples=0,
            processes=0,
            error=self.error,
            error_kind=self.error_kind,
            audio_seconds=workload.seconds,
            new_tokens=workload.new_tokens,
        )
        if self.error is not None or not processes:
            return empty
        # Who was given up waited longer than all who were answered; of a queue that only grew,
        # that is most of them.
        whole = [
            np.append(times, np.full(lost, np.inf))
            for times, lost in zip(processes, self._given_up(index), strict=True)
        ]
        tail = whole if self.kept_up(index) else []
        median = timing.percentile(processes, 0.5)
        heard = workload.batch * (workload.seconds or 0.0)
        spoken = token_figures(list(self.tokens.get(index, {}).values()), workload.batch)
        return replace(
            empty,
            p50_ms=median,
            real_time_factor=median / 1e3 / heard if heard and median is not None else None,
            p90_ms=timing.percentile(tail, 0.9),
            p95_ms=timing.percentile(tail, 0.95),
            p99_ms=timing.percentile(tail, 0.99),
            throughput=self._throughput(index, workload),
            import_ms=_median(self.imports),
            load_ms=_median(self.loads),
            first_ms=_median(self.firsts.get(index, [])),
            peak_rss_bytes=max(self.peaks, default=None),
            samples=sum(len(times) for times in processes),
            processes=len(processes),
            cpu_ms=self._cpu_ms(index),
            peak_pss_bytes=max(self.pss_peaks, default=None),
            stages=self._stages(index, workload.batch),
            ecdf=Ecdf(*timing.ecdf(processes)),
            offered_qps=self.scenario.qps,
            reached_qps=self.reached_qps(index),
            first_token_ms=spoken.first,
            token_ms=spoken.token,
            tokens_per_second=spoken.per_second,
            context_rss_bytes=max(self.contexts.get(index, []), default=None),
        )

    def _given_up(self, index: int) -> list[int]:
        """Requests that nobody answered, process by process."""
        turns = self.turns.get(index, {})
        return [
            sum(turn.given_up for turn in turns.get(round_, []))
            for round_ in sorted(self.times.get(index, {}))
        ]

    def _throughput(self, index: int, workload: Workload) -> float | None:
        """Rows per second; None where requests are waited for."""
        if not self.scenario.steady:
            return None
        rounds = self.rounds(index)
        if self.scenario.name == "offline":
            rounds = [np.concatenate(turns) for turns in self.turn_times(index)]
        return workload.batch * 1e3 / float(np.mean([times.mean() for times in rounds]))

    def _cpu_ms(self, index: int) -> float | None:
        """CPU milliseconds per inference, the median over processes."""
        return _median(
            [
                1e3 * sum(turn.cpu_seconds for turn in sums) / sum(turn.inferences for turn in sums)
                for sums in self.turns.get(index, {}).values()
                if sums
            ]
        )

    def _stages(self, index: int, batch: int) -> Stages | None:
        found = self.stages.get(index)
        if not found:
            return None
        made = Stages(
            preprocess_ms=float(np.median([stages.preprocess_ms for stages in found])),
            engine_ms=float(np.median([stages.engine_ms for stages in found])),
            postprocess_ms=float(np.median([stages.postprocess_ms for stages in found])),
            decode_ms=_median([one.decode_ms for one in found if one.decode_ms is not None]),
        )
        if made.decode_ms is None:
            return made
        whole = made.decode_ms + made.preprocess_ms + made.engine_ms + made.postprocess_ms
        return replace(made, pictures_per_second=batch * 1e3 / whole if whole > 0 else None)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ChildFailed(f"it sent {value!r} where a number was expected")
    return float(value)


def _facts(reply: Mapping[str, object]) -> dict[str, object]:
    found = reply.get("facts")
    return dict(found) if isinstance(found, dict) else {}


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _rarest(scenario: Scenario) -> float:
    """Seconds within which the next request has come, but for one time in 20,000."""
    return 10 / scenario.qps if scenario.qps is not None else scenario.interval or 0.0
