"""What the checks of the measurements found, as rows of README's table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.measurement.runs import RESULTS

Row = tuple[object, ...]


def rows() -> list[Row]:
    """(question, answer, aim, command) of every check whose results are kept."""
    return [row for name, tell in _TOLD.items() for row in _rows(name, tell)]


def where() -> str:
    """The machine and the versions of the newest engine-dependent check; empty without one."""
    kept = _read("same") or _read("planted-1.15")
    if kept is None:
        return ""
    machine, versions = kept["machine"], kept["versions"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "openvino"))
    return f"{machine['cpu']}, {machine['threads']} threads, shared with others; {names}."


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _rows(name: str, tell: Callable[[dict[str, Any]], Iterator[Row]]) -> Iterator[Row]:
    kept = _read(name)
    if kept is not None:
        for question, answer, aim, command in tell(kept):
            yield question, answer, aim, f"`python -m benchmarks.measurement.{command}`"


def _same(kept: dict[str, Any]) -> Iterator[Row]:
    runs = len(kept["runs"])
    noisy = sum(one["machine"] == "noisy" for one in kept["runs"])
    busy = f", the machine busy with other work in {noisy}" if noisy else ""
    yield (
        f"a bundle and its own copy, {kept['budget_seconds']:.0f} s a run{busy}, told apart",
        f"{kept['resolved']} of {runs} runs", f"at most {runs // 10}", "same",
    )  # fmt: skip


def _planted(kept: dict[str, Any]) -> Iterator[Row]:
    share, runs = kept["factor"] - 1, len(kept["runs"])
    rest = "" if share > 0.1 else " --runs 10 --budget 300 --processes 40"
    yield (
        f"a copy slowed by {share:.0%}, at most {kept['budget_seconds']:.0f} s in"
        f" {kept['processes']} processes each, told as slower",
        f"{kept['slower']} of {runs} runs", f"{runs - 1}",
        f"planted --factor {kept['factor']:g}{rest}",
    )  # fmt: skip
    if share > 0.1:
        widths = [(one["high"] - one["low"]) / 2 / one["value"] for one in kept["runs"]]
        yield (
            "half the width of that ratio's interval, MiniLM at 1×16, the median run",
            f"±{statistics.median(widths):.1%}", "±5 %", f"planted --factor {kept['factor']:g}",
        )  # fmt: skip


def _rates(kept: dict[str, Any]) -> Iterator[Row]:
    alike = [row["slower"] + row["faster"] for row in kept["rows"] if row["factor"] == 1]
    yield (
        f"identical pairs told apart, {kept['trials'] * len(alike):,} runs resampled from recorded"
        " timings", f"{max(alike):.1%} at most", "5 %", "rates --record",
    )  # fmt: skip


def _flipped(kept: dict[str, Any]) -> Iterator[Row]:
    small, large = (kept["verdicts"][size] for size in ("200", "5000"))
    yield (
        f"1 right answer in {kept['every']} made wrong, `--max-drop {kept['max_drop']}`,"
        " 200 and 5,000 samples",
        f"{small['verdict']}, {large['verdict']}", "inconclusive, fail", "flipped",
    )  # fmt: skip


def _stall(kept: dict[str, Any]) -> Iterator[Row]:
    plain, planted = (kept["contenders"][name]["p99_ms"] for name in ("plain", "planted"))
    yield (
        f"p99 at {kept['qps']:g} requests/s when one answer in {kept['every']} stalls"
        f" {kept['stall_ms']} ms; without",
        f"{_ms(planted)}; {_ms(plain)}", f"shows {kept['stall_ms']} ms", "stall",
    )  # fmt: skip


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"


def _overhead(kept: dict[str, Any]) -> Iterator[Row]:
    yield (
        "the parent's share of a CPU while children are timed",
        f"{kept['parent_cpu_share']:.2%}", "1 %", "overhead",
    )  # fmt: skip
    yield (
        "statistics of 4 contenders with 10,000 samples each",
        f"{kept['analysis_seconds']:.1f} s, {kept['analysis_peak_bytes'] / 1e6:.0f} MB",
        "5 s, 300 MB", "overhead",
    )  # fmt: skip
    yield (
        "`validate --no-latency` on 5,000 snippets / the two models alone",
        f"{kept['validate_seconds']['ratio']:.2f}", "1.15", "overhead",
    )  # fmt: skip


_TOLD = {
    "same": _same,
    "planted-1.15": _planted,
    "planted-1.05": _planted,
    "rates": _rates,
    "flipped": _flipped,
    "stall": _stall,
    "overhead": _overhead,
}
