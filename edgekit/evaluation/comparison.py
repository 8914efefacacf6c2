"""What the records of a bench come to: rows, ratios, noise, and what a person should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.core.measurements import Contender, Noise, Ratio
from edgekit.evaluation.contenders import IMPORTED, REFERENCE, REFERENCE_NAMES, Artifact
from edgekit.evaluation.ratios import RatioEstimate, mean_ratio, quantile_interval, turn_ratio
from edgekit.evaluation.rounds import LEAST_ROUNDS, Plan
from edgekit.runtime import machine
from edgekit.runtime.generation.requests import described
from edgekit.runtime.records import Record
from edgekit.runtime.timing import MOST_SAMPLES
from edgekit.runtime.tokens import TOKEN_MEASURES
from edgekit.runtime.workloads import Workload

# Below this share of its budget a run tells where the rest is.
_WHOLE = 0.95


def speed_ratio(a: Record, b: Record, workload: int, *, seed: int) -> RatioEstimate:
    """How many times faster `b` is than `a`: by their latencies, offline by their throughput."""
    return turn_ratio(a.turn_times(workload), b.turn_times(workload), seed=seed)


def row(
    record: Record,
    index: int,
    workload: Workload,
    artifact_bytes: int | None,
    seed: int,
    *,
    threads: int | None = None,
) -> Contender:
    """The line of the result, with the interval of its median and what it ran with.

    `threads` are those of the run; a contender that had others says so.
    """
    made = record.row(index, workload, artifact_bytes=artifact_bytes)
    made = replace(made, settings=settings_text(record, index, threads))
    if made.p50_ms is None:
        return made
    low, high = quantile_interval(record.rounds(index), 0.5, seed=seed)
    return replace(made, p50_low_ms=low, p50_high_ms=high)


def settings_text(record: Record, index: int, threads: int | None = None) -> str | None:
    """How a contender ran: what was chosen of PyTorch's settings, and how many asked at once.

    Of others their threads, where they are not the `threads` of the run.
    """
    parts: list[str] = []
    if record.name in REFERENCE_NAMES.values():
        mode = str(record.facts.get("mode", "eager")).partition(",")[0]
        chosen = record.settings.get(index, [])
        parts.append(mode)
        found = [one.get("threads") for one in chosen]
        counts = sorted({count for count in found if isinstance(count, int)})
        if counts:
            parts.append(_counted(counts, "thread"))
        if any(one.get("memory_format") == "channels_last" for one in chosen):
            parts.append("channels_last")
    else:
        own = record.facts.get("threads")
        if threads is not None and isinstance(own, int) and own != threads:
            parts.append(_counted([own], "thread"))
    streams = sorted(set(record.streams.get(index, [])))
    if streams:
        parts.append(_counted(streams, "stream"))
    return ", ".join(parts) or None


def _counted(counts: Sequence[int], noun: str) -> str:
    return f"{' or '.join(map(str, counts))} {noun}{'' if list(counts) == [1] else 's'}"


def artifact_bytes(record: Record, sizes: Mapping[str, int]) -> int | None:
    """What a contender has on disk; of the reference its parameters, in bytes."""
    if record.name in sizes:
        return sizes[record.name]
    found = record.facts.get("parameter_bytes")
    return found if isinstance(found, int) else None


def make_ratios(records: Sequence[Record], workloads: Sequence[Workload], seed: int) -> list[Ratio]:
    """Every other contender against the first, workload by workload."""
    base = records[0]
    return [
        _ratio(base, other, workload, speed_ratio(base, other, index, seed=seed))
        for index, workload in enumerate(workloads)
        for other in records[1:]
        if base.error is None and other.error is None
    ]


def make_token_ratios(
    records: Sequence[Record], workloads: Sequence[Workload], seed: int
) -> list[Ratio]:
    """The same for first tokens and for those after them; of models that generate alone."""
    base = records[0]
    found: list[Ratio] = []
    for index, workload in enumerate(workloads):
        for other in records[1:]:
            if base.error is not None or other.error is not None or workload.new_tokens is None:
                continue
            for measure in TOKEN_MEASURES:
                if measure == "token" and workload.new_tokens == 1:
                    continue
                a, b = (one.token_times(index, measure) for one in (base, other))
                made = turn_ratio(a, b, seed=seed)
                found.append(replace(_ratio(base, other, workload, made), measure=measure))
    return found


def _ratio(a: Record, b: Record, workload: Workload, made: RatioEstimate) -> Ratio:
    return Ratio(
        a.name, b.name, workload.batch, workload.length,
        made.value, made.low, made.high, made.resolvable, made.verdict,
    )  # fmt: skip


def precise(
    pairs: Sequence[tuple[Record, Record]], workloads: int, *, precision: float, seed: int
) -> bool:
    """Whether every ratio is known to ± `precision`; False where there is no pair left."""
    whole = [(a, b) for a, b in pairs if a.error is None and b.error is None]
    return bool(whole) and all(
        speed_ratio(a, b, index, seed=seed).resolvable - 1 <= precision
        for a, b in whole
        for index in range(workloads)
    )


def judge_noise(
    first: Record,
    twin: Record,
    before: machine.Snapshot,
    after: machine.Snapshot,
    threads: int,
    records: Sequence[Record],
    seed: int,
) -> Noise:
    """How quiet the machine was, by its counters and by a contender that ran against itself."""
    shares = {
        record.name: share
        for record in records
        if threads == 1 and (share := record.cpu_share()) is not None
    }
    causes = list(machine.noise_causes(before, after, threads=threads, shares=shares))
    same: RatioEstimate | None = None
    if first.error is None and twin.error is None:
        pairs = [(first.turn_times(index), twin.turn_times(index)) for index in sorted(first.times)]
        same = mean_ratio(pairs, seed=seed)
        if same.verdict != "not resolved":
            causes.insert(0, f"{first.name} came out {same.verdict} than itself")
    elif first.error is None:
        causes.insert(0, f"the second run of {first.name} failed: {twin.error}")
    return Noise(
        aa_ratio=None if same is None else same.value,
        aa_low=None if same is None else same.low,
        aa_high=None if same is None else same.high,
        verdict="noisy" if causes else "quiet",
        causes=tuple(causes),
    )


def describe_protocol(
    records: Sequence[Record],
    plan: Plan,
    workloads: Sequence[Workload],
    *,
    threads: int,
    precision: float,
    artifacts: Sequence[Artifact],
    beside: Sequence[Record] = (),
) -> dict[str, object]:
    """How it was measured, to measure it again.

    The records `beside` (the twin's, those of options) have no rows, and share in the budget.
    """
    rounds = max((len(record.loads) for record in records), default=0)
    early = LEAST_ROUNDS <= rounds < plan.processes and any(one.error is None for one in records)
    scenario = plan.scenario.to_json()
    return {
        "scenario": plan.scenario.name,
        **{key: value for key, value in scenario.items() if key != "name"},
        "order": "rounds of fresh processes, interleaved turns in random order",
        "clock": "perf_counter_ns around one inference; of a server, from when it was due",
        "workloads": [{**described(one), "variants": len(one.variants)} for one in workloads],
        "threads": threads,
        "processes": plan.processes,
        "rounds": rounds,
        "stopped": "precision" if early else "budget",
        "precision": precision,
        "budget_seconds": plan.budget,
        **_timed([*records, *beside], plan),
        "seed": plan.seed,
        "interval_method": "95 %, hierarchical bootstrap (rounds, turns, samples), widened to"
        " Student's t",
        "warm_up": {
            record.name: {"runs": record.warm_runs, "flat": record.warm_flat} for record in records
        },
        "cpu_seconds_per_busy_second": {
            record.name: share for record in records if (share := record.cpu_share()) is not None
        },
        "bundles": {one.name: one.bundle.id for one in artifacts if one.bundle is not None},
        "facts": {record.name: record.facts for record in records},
        # Per workload, one entry per process: the reference chooses anew in each.
        "settings": {
            record.name: {
                workloads[index].name: [
                    {key: chosen.get(key) for key in ("threads", "memory_format")}
                    for chosen in made
                ]
                for index, made in sorted(record.settings.items())
            }
            for record in records
            if record.name in REFERENCE_NAMES.values()
        },
    }


def _timed(records: Sequence[Record], plan: Plan) -> dict[str, object]:
    """The seconds of all timed turns, and why they are less than the budget, where they are."""
    seconds = sum(record.wall_seconds for record in records)
    found: dict[str, object] = {"measured_seconds": seconds}
    if seconds >= _WHOLE * plan.budget:
        return found
    why = []
    if any(record.error is not None for record in records):
        why.append("who failed leaves its part unused")
    turns = [
        turn for record in records for rounds in record.turns.values() for of in rounds.values()
        for turn in of
    ]  # fmt: skip
    if any(turn.samples >= MOST_SAMPLES for turn in turns):
        why.append(f"a turn ends after {MOST_SAMPLES:,} predictions")
    if why:
        found["untimed"] = ", and ".join(why)
    return found


def make_notes(
    records: Sequence[Record], workloads: Sequence[Workload], artifacts: Sequence[Artifact]
) -> list[str]:
    """What a person should know of the contenders, in sentences."""
    notes: list[str] = []
    pictured = any(
        one.bundle is not None and (one.bundle.manifest.processor or {}).get("kind") == "image"
        for one in artifacts
    )
    if pictured and any(one.pictures == () for one in workloads):
        notes.append(
            "DATA holds arrays and no pictures: what decoding and preparing take is not told."
        )
    for record in records:
        if record.error is not None:
            notes.append(f"{record.name} could not be measured: {record.error.rstrip('.')}.")
        elif not all(record.warm_flat):
            notes.append(
                f"{record.name} was still getting faster or slower when its warm-up ended in"
                f" {record.warm_flat.count(False)} of {len(record.warm_flat)} cases."
            )
    for record in records:
        told = [record.peak_note(), record.restless_note()]
        if record.error is None:
            told += [record.overload_note(index, one) for index, one in enumerate(workloads)]
        notes += [note for note in told if note is not None]
    reference = next((record for record in records if record.name in (REFERENCE, IMPORTED)), None)
    weights = None if reference is None else reference.facts.get("sha256")
    for artifact in artifacts:
        origin = None if artifact.bundle is None else artifact.bundle.manifest.source
        if weights is not None and origin is not None and origin.origin.sha256 != weights:
            notes.append(
                f"The reference has other weights than those {artifact.name} was made from."
            )
    return notes
