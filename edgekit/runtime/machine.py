"""What the machine did while something was measured: load, other programs, quotas, the clock."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.core import cpu

# Shares above which a measurement is called noisy. Interleaving cancels what is below them.
_OTHERS = 0.15
_STEAL = 0.02
_STARVED = 0.90


@dataclass(frozen=True)
class Snapshot:
    """Counters of one moment; None where the system does not tell. Times in seconds."""

    wall: float
    load: float | None
    busy: float | None
    stolen: float | None
    own: float
    throttled: int | None


def snapshot() -> Snapshot:
    """The counters now: of the machine, and of this process with its ended children."""
    busy, stolen = _processor_times()
    used = os.times()
    return Snapshot(
        wall=time.monotonic(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        busy=busy,
        stolen=stolen,
        own=used.user + used.system + used.children_user + used.children_system,
        throttled=_throttled(),
    )


def _processor_times() -> tuple[float | None, float | None]:
    """(busy, stolen) seconds of all processors since boot, from /proc/stat."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        # user nice system idle iowait irq softirq steal: proc_stat(5)
        ticks = [int(field) for field in line.split()[1:9]]
        second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None, None
    if len(ticks) < 8:
        return None, None
    return sum(ticks[:3] + ticks[5:7]) / second, ticks[7] / second


def _throttled() -> int | None:
    try:
        text = Path("/sys/fs/cgroup/cpu.stat").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "nr_throttled":
            return int(value)
    return None


def noise_causes(
    before: Snapshot, after: Snapshot, *, threads: int, shares: Mapping[str, float]
) -> tuple[str, ...]:
    """Sentences that say what may have disturbed a measurement between two snapshots.

    `shares` are CPU seconds over wall seconds of single contenders while they were timed, given
    where they ran on one thread: a thread that computes and gets less than a CPU was held back.
    The load average is no cause: it remembers what this very process did in the minute before.
    """
    causes: list[str] = []
    processors = os.cpu_count() or 1
    wall = max(after.wall - before.wall, 1e-9)
    if before.busy is not None and after.busy is not None:
        others = (after.busy - before.busy - (after.own - before.own)) / (wall * processors)
        if others > _OTHERS:
            causes.append(f"other programs used {others:.0%} of the CPUs")
    if before.stolen is not None and after.stolen is not None:
        stolen = (after.stolen - before.stolen) / (wall * processors)
        if stolen > _STEAL:
            causes.append(f"the hypervisor took {stolen:.0%} of the CPUs away (steal)")
    if before.throttled is not None and after.throttled is not None:
        times = after.throttled - before.throttled
        if times > 0:
            causes.append(f"the control group's CPU quota held the processes back {times} times")
    quota = cpu.cgroup_cpu_quota()
    if quota is not None and threads > quota:
        causes.append(f"{threads} threads share a CPU quota of {quota:g}")
    for name, share in shares.items():
        if share < _STARVED:
            causes.append(f"{name} got {share:.0%} of a CPU while it was timed")
    return tuple(causes)


def device_card() -> dict[str, object]:
    """The machine as a record of where a number was measured."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": cpu.cpu_model(),
        "arch": cpu.arch(),
        "cpu_features": sorted(cpu.cpu_features() or ()),
        "cpus": os.cpu_count(),
        "affinity": affinity,
        "cgroup_cpu_quota": cpu.cgroup_cpu_quota(),
        "threads_available": cpu.available_threads(),
        "memory_bytes": cpu.memory_bytes(),
        "governor": _governor(),
        "system": cpu.system(),
    }


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None
