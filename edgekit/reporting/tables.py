"""The tables and cards of a report: what is read rather than looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.core.measurements import (
    Attached,
    BenchResult,
    Contender,
    Gate,
    Noise,
    Numerics,
    Percentiles,
    Probe,
    ValidateResult,
)
from edgekit.reporting import words
from edgekit.reporting.deciding import noisy as is_noisy
from edgekit.reporting.headline import gate_values, on_time


@dataclass(frozen=True)
class Table:
    """A table with its heading, and what stands under it; a card is one of two columns."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[str, ...] = ()


_SAID = {True: "ok", False: "missed", None: "not decided"}


def gates(result: ValidateResult) -> list[Table]:
    """Every limit and whether it holds."""
    noisy = result.timing is not None and is_noisy(result.timing.noise)
    rows = tuple(
        (gate.name, *gate_values(gate, result), said(gate, noisy=noisy)) for gate in result.gates
    )
    return [Table("Limits", ("limit", "allowed", "measured", "verdict"), rows)] if rows else []


def said(gate: Gate, *, noisy: bool) -> str:
    """Whether a limit holds, and that noise is why nobody knows."""
    left_open = gate.passed is None and noisy and on_time(gate)
    return words.UNDECIDED if left_open else _SAID[gate.passed]


def undisturbed(result: ValidateResult) -> str | None:
    """That no sample differs, or none in its decision; None where one does, or nobody knows."""
    accuracy = result.accuracy
    if accuracy is None or "judged" not in result.data:
        return None
    count = words.counted(accuracy.samples, "sample")
    if not result.worst:
        return f"No sample differs: the outputs for all of the {count} are the original's."
    decides = any(row.argmax_agreement is not None for row in result.numerics.values())
    # How likely a text is decides nothing.
    decides = decides and accuracy.metric != "perplexity"
    if not decides or any(one.changed for one in result.worst):
        return None
    most = max((one.distance for one in result.worst), default=math.nan)
    return (
        f"No sample is decided otherwise: on the {count} the outputs differ by"
        f" {words.general(most, '.2g')} at most."
    )


def numerics(found: Mapping[str, Numerics]) -> list[Table]:
    """How far the outputs lie apart."""
    diverged = any(row.kl is not None for row in found.values())
    rows = tuple(
        (
            name,
            words.general(row.max_abs, ".2e"),
            words.general(row.mean_abs, ".2e"),
            words.metric(row.cosine, 6),
            words.NONE if row.argmax_agreement is None else words.share(row.argmax_agreement),
            *(
                (words.NONE if row.kl is None else words.general(row.kl, ".2e"),)
                if diverged
                else ()
            ),
        )
        for name, row in found.items()
    )
    header = ("output", "max |Δ|", "mean |Δ|", "cosine", "same decision")
    columns = (*header, *(["KL, nats"] if diverged else []))
    return [Table("Outputs beside the original's", columns, rows)] if rows else []


def contenders(result: BenchResult) -> list[Table]:
    """What was measured of each contender at each workload."""
    rows = result.contenders
    if not rows:
        return []
    qps = any(row.reached_qps is not None for row in rows)
    sounds = any(row.real_time_factor is not None for row in rows)
    extra = (
        *(("real-time factor",) if sounds else ()),
        *(("offered/s", "reached/s") if qps else ()),
    )
    header = ("contender", "workload", "p50", "p90", "p99", "per second", "CPU", *extra, "how")
    table = tuple(
        (
            row.name,
            words.of(row),
            words.milliseconds(row.p50_ms),
            words.milliseconds(row.p90_ms),
            words.milliseconds(row.p99_ms),
            words.digits(row.throughput),
            words.milliseconds(row.cpu_ms),
            *((words.digits(row.real_time_factor),) if sounds else ()),
            *((words.digits(row.offered_qps), words.digits(row.reached_qps)) if qps else ()),
            _how(row),
        )
        for row in rows
    )
    return [Table("All contenders", header, table, words.about_times(rows))]


def tokens(result: BenchResult) -> list[Table]:
    """What the tokens of models that generate took; nothing for others."""
    rows = tuple(
        (
            row.name,
            words.of(row),
            f"{row.new_tokens}",
            *_percentiles(row.first_token_ms),
            *_percentiles(row.token_ms),
            words.digits(row.tokens_per_second),
            words.size(row.context_rss_bytes),
        )
        for row in result.contenders
        if row.new_tokens is not None
    )
    header = (
        "contender", "workload", "new tokens", "first token", "p90", "each after it", "p90",
        "tokens per second", "peak memory",
    )  # fmt: skip
    return [Table("Tokens", header, rows, (words.ABOUT_TOKENS,))] if rows else []


def _percentiles(found: Percentiles | None) -> tuple[str, str]:
    if found is None:
        return words.NONE, words.NONE
    return words.milliseconds(found.p50), words.milliseconds(found.p90)


def token_ratios(result: BenchResult) -> list[Table]:
    """The ratios of first tokens, and of those after them."""
    noisy = is_noisy(result.noise)
    rows = tuple(
        (words.MEASURES[one.measure], one.b, one.a, words.of(one), words.times(one.value),
         words.interval(one), words.comparison(one.verdict, noisy=noisy))
        for one in result.token_ratios
    )  # fmt: skip
    header = ("measure", "compared", "against", "workload", "ratio", "95 % interval", "verdict")
    return [Table("Ratios of tokens", header, rows)] if rows else []


def ratios(result: BenchResult) -> list[Table]:
    """Every ratio with its interval, and what it comes to."""
    noisy = is_noisy(result.noise)
    rows = tuple(
        (one.b, one.a, words.of(one), words.times(one.value), words.interval(one),
         words.comparison(one.verdict, noisy=noisy))
        for one in result.ratios
    )  # fmt: skip
    header = ("compared", "against", "workload", "ratio", "95 % interval", "verdict")
    offline = result.protocol.get("scenario") == "offline"
    return [Table("Ratios", header, rows, (words.turn_by_turn(offline=offline),))] if rows else []


def _how(row: Contender) -> str:
    if row.error is not None:
        return f"failed: {row.error}"
    # What PyTorch ran with names it already.
    named = row.settings if row.engine == "pytorch" else None
    return named or ", ".join(filter(None, [row.engine, row.settings]))


def probes(found: Sequence[Probe], *, noisy: bool) -> list[Table]:
    """Options of the runtime and what they gain."""
    rows = tuple(
        (one.contender, one.option, words.workload(one.batch, one.length),
         words.times(one.gain.value), words.interval(one.gain),
         words.comparison(one.verdict, noisy=noisy))
        for one in found
    )  # fmt: skip
    header = ("contender", "option", "workload", "gain", "95 % interval", "verdict")
    return [Table("Gain of each option", header, rows)] if rows else []


def attached(found: Sequence[Attached]) -> list[Table]:
    """Results of other machines, without ratios."""
    header = ("contender", "workload", "p50", "p90", "peak memory", "samples")
    return [
        Table(
            f"{one.file}: {words.processor(one.device.get('cpu'))}, {one.noise.verdict}",
            header,
            tuple(
                (row.name, words.of(row), words.milliseconds(row.p50_ms),
                 words.milliseconds(row.p90_ms), words.size(row.peak_rss_bytes),
                 f"{row.samples:,}")
                for row in one.contenders
            ),
        )
        for one in found
    ]  # fmt: skip


def noise(found: Noise) -> list[Table]:
    """Whether the machine was quiet enough to be believed."""
    rows: list[tuple[str, str]] = [("verdict", found.verdict)]
    if found.aa_ratio is not None and found.aa_low is not None and found.aa_high is not None:
        rows.append(("a contender against itself", words.times(found.aa_ratio)))
        rows.append(
            ("95 % interval", f"{words.times(found.aa_low)} to {words.times(found.aa_high)}")
        )
    rows += [("cause", cause) for cause in found.causes]
    return [Table("Noise", (), tuple(rows))]


_DEVICE = {
    "cpu": "processor",
    "arch": "architecture",
    "system": "system",
    "cpus": "CPUs",
    "affinity": "CPUs of the process",
    "cgroup_cpu_quota": "CPU quota",
    "threads_available": "threads available",
    "memory_bytes": "memory",
    "governor": "frequency governor",
    "cpu_features": "features",
}


def device(card: Mapping[str, object]) -> list[Table]:
    """The machine."""
    rows = []
    for key, label in _DEVICE.items():
        value = card.get(key)
        if value is not None and value != []:
            if key == "memory_bytes" and isinstance(value, int):
                value = words.size(value)
            rows.append((label, plain(value)))
    rows += [(_label(key), plain(value)) for key, value in card.items()
             if key not in _DEVICE and value is not None]  # fmt: skip
    return [Table("Device", (), tuple(rows))] if rows else []


def protocol(card: Mapping[str, object]) -> list[Table]:
    """How the measuring was done."""
    rows = [(_label(key), plain(value)) for key, value in card.items() if value is not None]
    part = words.timed_part(card)
    foot = () if part is None else (part,)
    return [Table("Protocol", (), tuple(rows), foot)] if rows else []


def versions(found: Mapping[str, str]) -> list[Table]:
    """The versions of what took part."""
    return [Table("Versions", (), tuple(sorted(found.items())))] if found else []


def judged(result: ValidateResult) -> list[Table]:
    """What was judged, and against what."""
    return [
        Table(title, (), rows)
        for title, card in (
            ("Data", result.data), ("Bundle", result.bundle), ("Reference", result.reference)
        )
        if (rows := tuple((_label(key), plain(value)) for key, value in card.items()
                          if value is not None))
    ]  # fmt: skip


def plain(value: object) -> str:
    """A value of a free-form card as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return words.digits(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or words.NONE
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or words.NONE
    return str(value)


def _label(key: str) -> str:
    return key.replace("_", " ")
