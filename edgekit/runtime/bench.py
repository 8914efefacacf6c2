"""``python -m edgekit.runtime.bench BUNDLE``: how fast a bundle is on this device.

Needs the base install, the bundle's engine and nothing else, so that it runs on the device itself.
Measures in several fresh processes, one after the other, and prints what ``edgekit bench`` prints
for one contender; "peak MB" is the peak of memory above the imports. With ``--worker FILE`` it is
one such process, as `edgekit.runtime.worker` says.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.core import cpu
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import ConfigError, EdgekitError, MeasurementError, StepError
from edgekit.core.measurements import BenchResult, Contender, Noise
from edgekit.core.results import to_json
from edgekit.core.signals import Terminated, stops_raise
from edgekit.core.tolerance import Tolerance, tolerance_for
from edgekit.core.version import __version__
from edgekit.runtime import machine
from edgekit.runtime.contenders import make_contender, read_options, worker_command
from edgekit.runtime.conversation import Child, ChildFailed, child_environment
from edgekit.runtime.generation.requests import asked_workloads, described
from edgekit.runtime.golden import coarsest
from edgekit.runtime.records import Record
from edgekit.runtime.scenarios import SCENARIOS, SINGLE_STREAM, Scenario, make_scenario, plan_turns
from edgekit.runtime.worker import private_stdout, serve
from edgekit.runtime.workloads import Workload, save_workloads

WARM_SECONDS = 3.0
OPEN_TIMEOUT = 300.0
STAGE_SECONDS = 0.2


def measure_alone(
    bundle: Path,
    *,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    threads: int | None = None,
    budget: float = 20.0,
    processes: int = 5,
    new_tokens: int | None = None,
    seed: int = 0,
    scenario: Scenario = SINGLE_STREAM,
    timeout: float = OPEN_TIMEOUT,
) -> BenchResult:
    """One bundle measured in `processes` fresh processes, `budget` seconds of measuring in all.

    Every one of `batches` is measured with every one of `lengths`. Of a model that generates, whole
    requests are: prompts of those lengths, each answered by `new_tokens` tokens.

    Raises:
        ConfigError, BundleError: the options or the bundle.
        MissingDependency, SessionError: the engine or device is not here.
        MeasurementError: a process crashed, hung or answered NaN, or its answers changed.
    """
    check_plan(budget, processes, least_processes=1)
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads should be at least 1, got {threads}.")
    opened = open_bundle(bundle)
    workloads = asked_workloads(
        opened, batches=batches, lengths=lengths, new_tokens=new_tokens, seed=seed
    )
    count = threads or cpu.available_threads()
    record = Record(bundle.name or str(bundle))
    share = budget / (processes * len(workloads))
    before = machine.snapshot()
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        inputs = Path(folder) / "workloads.safetensors"
        save_workloads(workloads, inputs)
        command = worker_command(bundle, inputs, count, own_threads=threads is None)
        for round_ in range(processes):
            errors = Path(folder) / f"{round_}.stderr"
            with Child(command, stderr=errors, environment=child_environment()) as child:
                try:
                    _one_process(record, child, round_, workloads, share, scenario, timeout)
                except ChildFailed as failure:
                    # What is missing on this device is no fault of the measurement.
                    if failure.error is not None and not isinstance(failure.error, StepError):
                        raise failure.error from failure
                    raise MeasurementError(
                        f"Measuring {bundle} failed in process {round_ + 1} of {processes}:"
                        f" {failure}."
                    ) from failure
    _check_answers(record, opened, workloads)
    share_of_cpu = record.cpu_share()
    shares = {record.name: share_of_cpu} if count == 1 and share_of_cpu is not None else {}
    causes = machine.noise_causes(before, machine.snapshot(), threads=count, shares=shares)
    notes = [record.peak_note()]
    notes += [record.overload_note(index, workload) for index, workload in enumerate(workloads)]
    return BenchResult(
        protocol={
            "scenario": scenario.name,
            **{key: value for key, value in scenario.to_json().items() if key != "name"},
            "order": "one process after the other",
            "workloads": [described(workload) for workload in workloads],
            "threads": count,
            "processes": processes,
            "budget_seconds": budget,
            "measured_seconds": record.wall_seconds,
            "seed": seed,
            "load_average_before": before.load,
            "bundles": {record.name: opened.id},
            "warm_up": {record.name: {"runs": record.warm_runs, "flat": record.warm_flat}},
            "cpu_seconds_per_busy_second": {record.name: share_of_cpu},
            # Per workload and turn, where the scenario chose among callers at a time.
            "callers": {workloads[at].name: taken for at, taken in record.streams.items()},
            "facts": {record.name: record.facts},
        },
        device=machine.device_card(),
        versions=versions([record]),
        contenders=tuple(
            record.row(index, workload, artifact_bytes=opened.bytes())
            for index, workload in enumerate(workloads)
        ),
        ratios=(),
        noise=Noise(None, None, None, "noisy" if causes else "quiet", causes),
        notes=tuple(note for note in notes if note is not None),
    )


def _one_process(
    record: Record,
    child: Child,
    round_: int,
    workloads: Sequence[Workload],
    share: float,
    scenario: Scenario,
    timeout: float,
) -> None:
    # Every workload gets to be the first of some process: only that one's first call is cold.
    order = [(round_ + step) % len(workloads) for step in range(len(workloads))]
    record.open(child, order[0], timeout=timeout)
    for index in order:
        record.warm(child, index, seconds=WARM_SECONDS, timeout=timeout)
        turns, seconds, least = plan_turns(
            share,
            record.typical[index],
            scenario,
            generating=workloads[index].new_tokens is not None,
        )
        for _ in range(turns):
            record.measure(
                child,
                index,
                round_,
                seconds=seconds,
                least=least,
                timeout=timeout,
                scenario=scenario,
            )
    for index in order:
        record.measure_stages(child, index, seconds=STAGE_SECONDS, timeout=timeout)
    record.close(child, timeout=timeout)


def _check_answers(record: Record, bundle: Bundle, workloads: Sequence[Workload]) -> None:
    """Raise MeasurementError when the answers while it was timed were others than at first."""
    golden = bundle.manifest.golden
    rule = answer_rule(record, None if golden is None else golden.tolerance)
    for index, workload in enumerate(workloads):
        moved = record.drifted(index, rule)
        if moved is not None:
            raise MeasurementError(
                f"{record.name} did not answer {workload.name} the same way while it was timed"
                f" ({moved.describe()}; allowed is {rule.describe(moved.values)}).",
                hint="Check the engine's version, and the device's memory and cooling.",
            )


def answer_rule(record: Record, overrides: Mapping[str, Tolerance] | None = None) -> Tolerance:
    """How far a contender's answers may move: the tolerance of the precision it answers in."""
    used = record.facts.get("effective_precision", record.facts.get("precision"))
    return tolerance_for(coarsest("fp32", str(used)), overrides)


def check_plan(budget: float, processes: int, *, least_processes: int) -> None:
    """Raise ConfigError for a budget or a number of processes that cannot be measured with."""
    if not 0 < budget < math.inf:
        raise ConfigError(
            f"--budget should be above 0 seconds and finite, got {budget:g}.",
            hint="For example: --budget 60",
        )
    if processes < least_processes:
        raise ConfigError(
            f"--processes should be at least {least_processes}, got {processes}.",
            hint="Processes differ by themselves: one cannot tell by how much.",
        )


def versions(records: Sequence[Record]) -> dict[str, str]:
    """The versions of edgekit, Python, numpy and of the engines that ran."""
    found = {
        "edgekit": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
    }
    for record in records:
        if "engine" in record.facts and "version" in record.facts:
            found[str(record.facts["engine"])] = str(record.facts["version"])
    return found


def table(result: BenchResult) -> str:
    """The contenders as lines for a terminal; a percentile without its samples is a dash.

    "peak MB" is the peak RSS above what the imports took.
    """

    def cell(value: float | None, width: int, digits: int = 2) -> str:
        return f"{'–' if value is None else format(value, f'.{digits}f'):>{width}}"

    lines = [
        f"{'contender':<20} {'batch':>5} {'tokens':>6} {'p50 ms':>9} {'p90 ms':>9} {'p99 ms':>9}"
        f" {'cpu ms':>8} {'per s':>8} {'load ms':>8} {'peak MB':>8}"
    ]
    for row in result.contenders:
        peak = None if row.peak_rss_bytes is None else row.peak_rss_bytes / 1e6
        rate = row.throughput if row.reached_qps is None else row.reached_qps
        lines.append(
            f"{row.name:<20.20} {row.batch:>5} {row.length if row.length else '–':>6}"
            f" {cell(row.p50_ms, 9)} {cell(row.p90_ms, 9)} {cell(row.p99_ms, 9)}"
            f" {cell(row.cpu_ms, 8)} {cell(rate, 8, 1)} {cell(row.load_ms, 8, 0)}"
            f" {cell(peak, 8, 0)}"
        )
    for row in result.contenders:
        if row.stages is not None:
            decode = row.stages.decode_ms
            lines.append(
                f"{_place(row)}: {'' if decode is None else f'{decode:.2f} ms to decode, '}"
                f"{row.stages.preprocess_ms:.2f} ms before the engine,"
                f" {row.stages.engine_ms:.2f} in it, {row.stages.postprocess_ms:.2f} after it."
            )
    lines += [told for row in result.contenders if (told := _tokens_line(row)) is not None]
    lines.append("peak MB: the peak of memory above the imports.")
    lines += [f"Note: {note}" for note in result.notes]
    causes = f" ({'; '.join(result.noise.causes)})" if result.noise.causes else ""
    lines.append(f"The machine was {result.noise.verdict}{causes}.")
    return "\n".join(lines)


def _tokens_line(row: Contender) -> str | None:
    """What the tokens of a model that generates took; None of another, or of one that failed."""
    first, token, held = row.first_token_ms, row.token_ms, row.context_rss_bytes
    if first is None:
        return None
    told = f"{_place(row)}, {row.new_tokens} new tokens: the first after {first.p50:.1f} ms"
    if token is not None and row.tokens_per_second is not None:
        told += f", {token.p50:.2f} ms for each after it, {row.tokens_per_second:.1f} per second"
    if row.real_time_factor is not None:
        told += f", real-time factor {row.real_time_factor:.3g}"
    if held is not None:
        told += f", {held / 1e6:.0f} MB at this length alone"
    return f"{told}."


def _place(row: Contender) -> str:
    return f"{row.batch}×{row.length}" if row.length else f"{row.batch}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code of DESIGN's table."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.runtime.bench", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--batch", type=int, action="append", metavar="N", help="repeatable")
    parser.add_argument(
        "--length", type=int, action="append", metavar="N", help="tokens; repeatable"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="tokens of every answer that is generated"
    )
    parser.add_argument("--scenario", default="single-stream", help=", ".join(SCENARIOS))
    parser.add_argument("--qps", type=float, metavar="N", help="requests per second of server")
    parser.add_argument("--interval", type=float, metavar="SECONDS", help="between sparse requests")
    parser.add_argument("--streams", type=int, metavar="N", help="callers at a time in offline")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--budget", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--processes", type=int, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--options", metavar="JSON", help=argparse.SUPPRESS)
    parser.add_argument("--own-threads", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker is not None:
        replies = private_stdout()
        contender = make_contender(
            given.bundle,
            given.threads,
            read_options(given.options),
            own_threads=given.own_threads,
        )
        return serve(contender, given.worker, sys.stdin, replies, threads=given.threads)
    try:
        with stops_raise():
            result = measure_alone(
                given.bundle,
                batches=given.batch or (1,),
                lengths=given.length,
                new_tokens=given.max_new_tokens,
                threads=given.threads,
                budget=given.budget,
                processes=given.processes,
                seed=given.seed,
                scenario=make_scenario(
                    given.scenario,
                    qps=given.qps,
                    interval=given.interval,
                    streams=given.streams,
                    seed=given.seed,
                ),
            )
    except EdgekitError as error:
        return _fail(
            error.kind, error.message, error.hint, code=error.exit_code, as_json=given.json
        )
    except KeyboardInterrupt:
        told = "Interrupted; nothing was left behind."
        return _fail("Interrupted", told, code=130, as_json=given.json)
    except Terminated:
        told = "Terminated; nothing was left behind."
        return _fail("Terminated", told, code=143, as_json=given.json)
    print(json.dumps(to_json(result), indent=2) if given.json else table(result))
    return 0


def _fail(kind: str, message: str, hint: str | None = None, *, code: int, as_json: bool) -> int:
    if as_json:
        told = {"kind": kind, "message": message, "hint": hint, "exit_code": code}
        print(json.dumps({"error": told}))
    print(f"error: {message}" + (f" {hint}" if hint else ""), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
