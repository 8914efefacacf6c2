"""``edgekit doctor``: what this machine can do, and how to mend what it cannot."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import common, pass_console
from edgekit.core import cpu
from edgekit.core.errors import EdgekitError
from edgekit.core.lazy import install_line

# package → (what it is for, the extra that brings it)
PACKAGES: dict[str, tuple[str, str]] = {
    "onnxruntime": ("engine", "ort"),
    "onnxruntime-gpu": ("engine with CUDA", "cuda"),
    "openvino": ("engine", "openvino"),
    "tokenizers": ("text models", "text"),
    "torch": ("export, validate", "build"),
    "transformers": ("export, validate", "build"),
    "optimum": ("export", "build"),
    "onnx": ("export, compile", "build"),
    "pyarrow": ("reading Parquet", "data"),
}

# Both packages bring the folder onnxruntime: the last one to be installed breaks the other.
_CLASHES = {"ort": "cuda", "cuda": "ort"}


@dataclass(frozen=True)
class Problem:
    """Something that will get in the way, and the line that mends it."""

    problem: str
    fix: str


def installed() -> dict[str, str]:
    """The version of each package of the table that is installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def diagnose(packages: dict[str, str], engines: dict[str, str]) -> list[Problem]:
    """What is wrong with an installation; `engines` holds what each engine said when opened."""
    problems = []
    if "onnxruntime" in packages and "onnxruntime-gpu" in packages:
        problems.append(
            Problem(
                "onnxruntime and onnxruntime-gpu overwrite each other's files.",
                "pip uninstall -y onnxruntime onnxruntime-gpu\n"
                + install_line("cuda", options="--force-reinstall"),
            )
        )
    if not packages.keys() & {"onnxruntime", "onnxruntime-gpu", "openvino"}:
        problems.append(Problem("No engine is installed.", install_line("runtime")))
    for engine, said in engines.items():
        if said.startswith("error: "):
            problems.append(Problem(f"{engine} does not work: {said[7:]}", "Reinstall the engine."))
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "0":
        problems.append(
            Problem(
                "ORT_DISABLE_TELEMETRY=0 lets ONNX Runtime send telemetry.",
                "unset ORT_DISABLE_TELEMETRY",
            )
        )
    free = shutil.disk_usage(Path.cwd()).free
    if free < 2 * 10**9:
        problems.append(
            Problem(f"Only {human_bytes(free)} of disk are free here.", "Free some space.")
        )
    quota = cpu.cgroup_cpu_quota()
    if quota is not None and quota < (os.cpu_count() or 1):
        problems.append(
            Problem(
                f"The control group allows {quota:g} of {os.cpu_count()} CPUs:"
                " timings will be throttled.",
                "Give the container more CPU, or read every figure as one of this quota.",
            )
        )
    return problems


def _devices() -> dict[str, str]:
    """Each installed engine's devices or providers, or what went wrong when it was asked."""
    from edgekit.runtime.engines import engine_devices, engine_names

    found = {}
    for engine in engine_names():
        try:
            found[engine] = ", ".join(engine_devices(engine))
        except EdgekitError as error:
            if error.exit_code != 3:
                found[engine] = f"error: {error.message}"
    return found


@click.command("doctor")
@common
@pass_console
def command(console: Console) -> None:
    """Tell what this machine can do, and how to mend what it cannot."""
    packages = installed()
    engines = _devices()
    problems = diagnose(packages, engines)
    features = cpu.cpu_features()
    facts: dict[str, object] = {
        "system": cpu.system(),
        "cpu": cpu.cpu_model(),
        "arch": cpu.arch(),
        "cpu_features": None if features is None else sorted(features),
        "threads": cpu.available_threads(),
        "memory_bytes": cpu.memory_bytes(),
        "engines": engines,
        "packages": packages,
        "telemetry": "off" if os.environ.get("ORT_DISABLE_TELEMETRY") != "0" else "on",
        "problems": [{"problem": item.problem, "fix": item.fix} for item in problems],
    }
    rows = [
        (
            name,
            packages.get(name),
            use,
            "" if name in packages else _to_install(extra),
        )
        for name, (use, extra) in PACKAGES.items()
    ]
    lines = [
        f"{cpu.system()}",
        f"{cpu.cpu_model()}: {cpu.available_threads()} threads,"
        f" {human_bytes(cpu.memory_bytes())} of memory",
        f"CPU features: {', '.join(sorted(features)) if features else 'not readable here'}",
        *(f"{engine}: {said}" for engine, said in engines.items()),
        f"telemetry of the engines: {facts['telemetry']}",
        "",
        table(("package", "version", "for", "to install"), rows),
        "",
        *(f"Problem: {item.problem}\n{_indent(item.fix)}" for item in problems),
    ]
    console.result(facts, "\n".join(lines) + ("" if problems else "No problems found."))


def _to_install(extra: str) -> str:
    """The line that brings an extra, with the clash that it could make."""
    other = _CLASHES.get(extra)
    if other is None:
        return install_line(extra)
    return f"{install_line(extra)}  (not together with {other})"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
