"""Facts about this machine: architecture, CPU features, usable threads, memory."""

from __future__ import annotations

import math
import os
import platform
import sys
from functools import cache
from pathlib import Path

# One name per feature, whatever the operating system calls it. These are the names that
# `requires.cpu_features` of a manifest and `features` of a target profile may hold.
_LINUX_FLAGS = {
    # /proc/cpuinfo "flags" (x86) and "Features" (ARM): Linux arch/x86/include/asm/cpufeatures.h,
    # arch/arm64/kernel/cpuinfo.c
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}

KNOWN_FEATURES = frozenset(_LINUX_FLAGS.values())
# Of x86: adds four products of 8 bits in 32. Without it pairs of them are added in 16 bits, where
# unsigned times signed may saturate.
VNNI = ("avx512_vnni", "avx_vnni")
# What computes 8-bit products in one instruction, of any architecture.
DOT_PRODUCTS = frozenset({*VNNI, "amx_int8", "dotprod", "i8mm"})
# What multiplies bfloat16 in one instruction, of any architecture.
BFLOAT16_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64", "armv8l": "arm64"}


def arch() -> str:
    """The processor architecture: ``x86_64``, ``arm64`` or what the system calls it."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


@cache
def cpu_features() -> frozenset[str] | None:
    """The features of KNOWN_FEATURES that this CPU has, or None where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return parse_cpuinfo(text)


def parse_cpuinfo(text: str) -> frozenset[str] | None:
    """The features of the first processor in a /proc/cpuinfo text; None without such a line."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(_LINUX_FLAGS[flag] for flag in value.split() if flag in _LINUX_FLAGS)
    return None


@cache
def cpu_model() -> str:
    """The processor's name as the system tells it, or the architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    # "model" alone is a number on x86 and the board's name on ARM.
    wanted = "model name" if "model name" in text else "model"
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == wanted:
            return value.strip()
    try:
        board = Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace")
    except OSError:
        board = ""
    return board.strip("\x00 \n") or platform.processor() or arch()


def available_threads() -> int:
    """The threads worth starting: CPUs of the affinity mask, capped by the cgroup's CPU quota.

    Engines size their pools by the machine's cores and then fight over a container's share.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cgroup_cpu_quota()
    if quota is not None:
        count = min(count, max(1, math.floor(quota)))
    return max(1, count)


def cgroup_cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs per wall-clock second that the control group allows (v2, then v1), or None."""
    try:
        quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = int((root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        span = int((root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return limit / span if limit > 0 and span > 0 else None


def memory_bytes() -> int | None:
    """The memory this process may use: the machine's, capped by the control group's limit."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return min(total, int(limit)) if limit != "max" else total
    except (OSError, ValueError):
        return total


def system() -> str:
    """The operating system and its release, for records of where a number was measured."""
    return f"{platform.system()} {platform.release()} {arch()}, Python {sys.version.split()[0]}"
