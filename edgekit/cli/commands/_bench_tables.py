"""A bench as tables for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from edgekit.cli.console import human_bytes, table
from edgekit.core.measurements import (
    Attached,
    BenchResult,
    Comparison,
    Contender,
    Percentiles,
    Ratio,
    Stages,
)
from edgekit.reporting import words
from edgekit.reporting.headline import headline

_LONGEST_NAME = 28
_WIDTH = 100


def describe(result: BenchResult, *, verbose: bool = False) -> str:
    """Times by workload, the contenders, ratios, probes, noise; what it comes to at the end."""
    noisy = result.noise.verdict == "noisy"
    blocks = [
        *_asked(result.protocol),
        *_times(result.contenders),
        *_tokens(result.contenders),
        "\n".join(map(_wrapped, words.about_times(result.contenders))),
        _contenders(result.contenders),
    ]
    if verbose:
        blocks += _stages(result.contenders)
    if result.ratios:
        blocks.append(
            table(
                ("workload", "speed of", "over", "ratio", "95 %", "verdict"),
                [
                    (_workload(row.batch, row.length), _short(row.b), _short(row.a),
                     f"{row.value:.2f}×", _range(row.low, row.high),
                     _verdict(row.verdict, noisy=noisy))
                    for row in result.ratios
                ],
            )
            + f"\n{words.turn_by_turn(offline=result.protocol.get('scenario') == 'offline')}"
        )  # fmt: skip
    blocks += _token_ratios(result.token_ratios, noisy=noisy)
    if result.probes:
        blocks.append(
            table(
                ("workload", "contender", "option", "gain", "95 %", "verdict"),
                [
                    (_workload(row.batch, row.length), _short(row.contender), row.option,
                     f"{row.gain.value:.2f}×", _range(row.gain.low, row.gain.high),
                     _verdict(row.verdict, noisy=noisy))
                    for row in result.probes
                ],
            )
        )  # fmt: skip
    lines = [*words.noise(result.noise), *_stopped(result.protocol)]
    if noisy and (result.ratios or result.probes):
        lines.append(
            "No speed is decided: quiet the machine (stop what else runs on it), or give a longer"
            " --budget."
        )
    blocks.append("\n".join(lines))
    blocks += [_attached(one) for one in result.attached]
    if result.notes:
        blocks.append("\n".join(_wrapped(f"Note: {note}") for note in result.notes))
    blocks.append(_wrapped(headline(result).sentence))
    return "\n\n".join(block for block in blocks if block)


def _asked(protocol: Mapping[str, object]) -> list[str]:
    """How requests came, where it was not one after the other."""
    asked = words.scenario(protocol)
    if protocol.get("scenario") == "server":
        asked += f": latency is {words.time_of(protocol)}"
    return [f"Scenario {asked}."] if asked else []


def _verdict(verdict: Comparison, *, noisy: bool) -> str:
    """The verdict in a table's few columns: what left it open is told under the tables."""
    told = words.comparison(verdict, noisy=noisy)
    return "undecided" if told == words.UNDECIDED else told


def _times(contenders: Sequence[Contender]) -> list[str]:
    """A table for each workload; of sounds with the real-time factor."""
    return [
        _times_at([row for row in contenders if (row.batch, row.length) == workload])
        for workload in _workloads(contenders)
    ]


def _times_at(rows: Sequence[Contender]) -> str:
    first = rows[0]
    heard = first.audio_seconds is not None
    title = _title((first.batch, first.length))
    if heard:
        title += f", sounds of {first.audio_seconds:.1f} s"
    if first.new_tokens is not None:
        title += f", {words.counted(first.new_tokens, 'new token')} each"
    return f"{title}\n" + table(
        ("contender", "p50 ms", "95 %", *(("RTF",) if heard else ()), "p90 ms", "p99 ms",
         "per s", "CPU ms", "first ms", "n"),
        [
            (_short(row.name), _ms(row.p50_ms), _range(row.p50_low_ms, row.p50_high_ms),
             *((_factor(row),) if heard else ()), _ms(row.p90_ms), _ms(row.p99_ms), _rate(row),
             _ms(row.cpu_ms), _ms(row.first_ms), f"{row.samples:,}")
            for row in rows
        ],
    )  # fmt: skip


def _tokens(contenders: Sequence[Contender]) -> list[str]:
    """What the tokens of models that generate took, and the memory of each length alone."""
    told = [row for row in contenders if row.new_tokens is not None]
    if not told:
        return []
    rows = [
        (_workload(row.batch, row.length), _short(row.name),
         *_percentiles(row.first_token_ms), *_percentiles(row.token_ms),
         None if row.tokens_per_second is None else f"{row.tokens_per_second:.1f}",
         human_bytes(row.context_rss_bytes))
        for row in told
    ]  # fmt: skip
    header = ("workload", "contender", "first token ms", "p90", "token ms", "p90", "tokens/s",
              "peak RSS")  # fmt: skip
    return [f"{table(header, rows)}\n{_wrapped(words.ABOUT_TOKENS)}"]


def _percentiles(found: Percentiles | None) -> tuple[str | None, str | None]:
    return (None, None) if found is None else (_ms(found.p50), _ms(found.p90))


def _token_ratios(ratios: Sequence[Ratio], *, noisy: bool) -> list[str]:
    rows = [
        (_workload(row.batch, row.length), words.MEASURES[row.measure], _short(row.b),
         _short(row.a), f"{row.value:.2f}×", _range(row.low, row.high),
         _verdict(row.verdict, noisy=noisy))
        for row in ratios
    ]  # fmt: skip
    header = ("workload", "measure", "speed of", "over", "ratio", "95 %", "verdict")
    return [table(header, rows)] if rows else []


def _contenders(contenders: Sequence[Contender]) -> str:
    """What does not depend on the workload, but for PyTorch's settings: all that were chosen."""
    firsts = {row.name: row for row in reversed(contenders)}
    settings: dict[str, dict[str, None]] = {name: {} for name in firsts}
    for row in contenders:
        if row.settings is not None:
            settings[row.name][row.settings] = None
    made = table(
        ("contender", "engine", "ran with", "load ms", "peak RSS", "files"),
        [
            (_short(row.name), row.engine, "; ".join(settings[row.name]) or None,
             _ms(row.load_ms),
             human_bytes(row.peak_rss_bytes), human_bytes(row.artifact_bytes))
            for row in reversed(firsts.values())
        ],
    )  # fmt: skip
    return f"{made}\npeak RSS: above what the imports took."


def _stages(contenders: Sequence[Contender]) -> list[str]:
    told = [(row, row.stages) for row in contenders if row.stages is not None]
    pictures = any(stages.decode_ms is not None for _, stages in told)
    rows = [
        (_workload(row.batch, row.length), _short(row.name),
         *([_ms(stages.decode_ms)] if pictures else []), _ms(stages.preprocess_ms),
         _ms(stages.engine_ms), _ms(stages.postprocess_ms),
         *([_per_second(stages)] if pictures else []))
        for row, stages in told
    ]  # fmt: skip
    decode, rate = (["decode ms"], ["pictures/s"]) if pictures else ([], [])
    header = ("workload", "contender", *decode, "before ms", "engine ms", "after ms", *rate)
    return [table(header, rows)] if rows else []


def _per_second(stages: Stages) -> str | None:
    """Pictures per second from files to answers, one call after the other."""
    rate = stages.pictures_per_second
    return None if rate is None else f"{rate:.1f}"


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _stopped(protocol: Mapping[str, object]) -> list[str]:
    part = words.timed_part(protocol)
    if protocol.get("stopped") != "precision":
        return [] if part is None else [part]
    return [
        f"Stopped after {protocol.get('rounds')} of {protocol.get('processes')} rounds: every"
        f" ratio is known to ±{float(str(protocol.get('precision'))):.1%}."
    ]


def _attached(one: Attached) -> str:
    told = one.device.get("cpu") or one.device.get("arch") or "an unknown device"
    # Of another's file: on one line, whatever it holds.
    where = " ".join(str(told).split())
    tables = "\n".join(_times(one.contenders))
    return f"{one.file}, measured on {where} ({one.noise.verdict}):\n{tables}"


def _workloads(contenders: Iterable[Contender]) -> list[tuple[int, int | str | None]]:
    return list(dict.fromkeys((row.batch, row.length) for row in contenders))


def _title(workload: tuple[int, int | str | None]) -> str:
    batch, length = workload
    if length is None:
        return f"Batch {batch}"
    return f"Batch {batch}, {'natural lengths' if length == 'data' else f'{length} tokens'}"


def _workload(batch: int, length: int | str | None) -> str:
    return f"{batch}" if length is None else f"{batch}×{length}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def _rate(row: Contender) -> str | None:
    """Rows per second; of a server what it reached of what was offered."""
    if row.reached_qps is not None and row.offered_qps is not None:
        return f"{row.reached_qps:.1f} of {row.offered_qps:g}"
    return None if row.throughput is None else f"{row.throughput:.1f}"


def _factor(row: Contender) -> str | None:
    """Seconds of computing per second of sound."""
    return None if row.real_time_factor is None else f"{row.real_time_factor:.3g}"


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{_ms(low)}–{_ms(high)}"


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.{_digits(value)}f}"


def _digits(value: float) -> int:
    """Decimals that leave a small model's time, or its gain, something to read."""
    return 0 if value >= 1000 else 2 if value >= 0.1 else 3
