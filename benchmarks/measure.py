"""Shared by the benchmarks: interleaved timing of calls and of commands, and how to print it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.core import cpu
from edgekit.evaluation.ratios import RatioEstimate, ratio
from edgekit.pipeline.provenance import versions
from edgekit.runtime.timing import come_to_rest

Times = dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]]


def interleaved_calls(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 40,
    each: int = 25,
    warm: int = 30,
    seed: int = 0,
) -> Times:
    """Milliseconds of each call, `rounds` × `each`, in random order within a round."""
    order = random.Random(seed)
    for call in calls.values():
        for _ in range(warm):
            call()
    times: Times = {name: [] for name in calls}
    for _ in range(rounds):
        for name in order.sample(sorted(calls), len(calls)):
            call = calls[name]
            # A pool that still spins after another one's calls would take a core from these.
            come_to_rest()
            call()
            samples = np.empty(each)
            for index in range(each):
                start = time.perf_counter_ns()
                call()
                samples[index] = (time.perf_counter_ns() - start) / 1e6
            times[name].append(samples)
    return times


def interleaved_commands(
    commands: Mapping[str, Sequence[str]], *, rounds: int = 20, seed: int = 0
) -> tuple[Times, dict[str, int]]:
    """(wall milliseconds per round, largest peak RSS in bytes) of whole processes, interleaved."""
    order = random.Random(seed)
    times: Times = {name: [] for name in commands}
    peaks = dict.fromkeys(commands, 0)
    for number in range(rounds + 1):
        for name in order.sample(sorted(commands), len(commands)):
            start = time.perf_counter_ns()
            peak = run_peak(commands[name])
            elapsed = (time.perf_counter_ns() - start) / 1e6
            # The first round fills the file cache.
            if number:
                times[name].append(np.array([elapsed]))
                peaks[name] = max(peaks[name], peak)
    return times, peaks


# Read by the child itself at its end: the ru_maxrss that a parent is told starts at the parent's
# own, since the kernel carries the maximum of the replaced image over an exec (getrusage(2)).
_TELL_PEAK = """
import atexit, os
def tell(path):
    with open("/proc/self/status") as status, open(path, "w") as file:
        file.write(next(line.split()[1] for line in status if line.startswith("VmHWM")))
if "EDGEKIT_PEAK_FILE" in os.environ:
    atexit.register(tell, os.environ.pop("EDGEKIT_PEAK_FILE"))
"""


def run_peak(command: Sequence[str]) -> int:
    """Run a Python command to its end; its peak RSS in bytes. CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory(prefix="edgekit-peak-") as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(_TELL_PEAK)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([name, os.environ.get("PYTHONPATH", "")]),
            "EDGEKIT_PEAK_FILE": str(folder / "peak"),
        }
        subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
        return int((folder / "peak").read_text()) * 1024


def compare(times: Times, a: str, b: str) -> RatioEstimate:
    """p50(a) / p50(b) with its interval: above 1, b is faster."""
    return ratio(times[a], times[b])


def median(times: Times, name: str) -> float:
    """The median over all rounds, in milliseconds."""
    return float(np.median(np.concatenate(times[name])))


def shown(estimate: RatioEstimate) -> str:
    """A ratio with its interval."""
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def factor(found: Sequence[float]) -> str:
    """A ratio with its interval, from what a benchmark has kept: value, low and high."""
    value, low, high = found
    return f"{value:.2f}× ({low:.2f}–{high:.2f})"


def machine() -> dict[str, object]:
    """What stands beside every figure."""
    return {"cpu": cpu.cpu_model(), "threads": cpu.available_threads(), "system": cpu.system()}


def report(name: str, figures: Mapping[str, object], lines: Sequence[str]) -> None:
    """Print a benchmark's lines, and keep its figures as JSON in ``demo/bench``."""
    used = versions()
    folder = Path("demo") / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "versions": used, "figures": figures}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    facts = machine()
    print(f"\n## {name}")
    print(f"{facts['cpu']}, {facts['threads']} threads, {facts['system']};", end=" ")
    print(", ".join(f"{key} {value}" for key, value in used.items() if key != "python"))
    for line in lines:
        print(line)
