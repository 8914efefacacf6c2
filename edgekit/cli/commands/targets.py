"""``edgekit targets``."""

from __future__ import annotations

import click

from edgekit.cli.console import Console, table
from edgekit.cli.options import common, pass_console
from edgekit.core import cpu
from edgekit.core.errors import EdgekitError
from edgekit.core.profiles import Profile, list_profiles, load_profile


@click.command("targets")
@click.argument("name", required=False)
@common
@pass_console
def command(console: Console, name: str | None) -> None:
    """List the target profiles, or show everything one of them says."""
    if name is not None:
        profile = load_profile(name)
        values = profile.to_json()
        width = max(map(len, values))
        lines = [f"{key.ljust(width)}  {_show(value)}" for key, value in values.items()]
        console.result(values, "\n".join(lines))
        return
    profiles = list_profiles()
    rows = [
        (
            profile.name,
            ", ".join(profile.engines),
            profile.device,
            profile.arch,
            ", ".join(profile.precisions),
            profile.status,
            fits_here(profile),
        )
        for profile in profiles
    ]
    header = ("target", "engines", "device", "arch", "precisions", "status", "fits this machine")
    console.result({"targets": [profile.to_json() for profile in profiles]}, table(header, rows))


def fits_here(profile: Profile) -> str:
    """Whether this machine is what the profile describes, as far as can be told without a run."""
    if profile.arch not in (None, cpu.arch()):
        return f"no: this is {cpu.arch()}"
    if not profile.runs_here():
        lacking = sorted(set(profile.features) - (cpu.cpu_features() or set()))
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return f"no: CPU lacks {lacking[0]}{more}"
    return "yes" if profile.device == "cpu" else _accelerator_here(profile)


def _accelerator_here(profile: Profile) -> str:
    """Only the engines know the accelerators."""
    from edgekit.runtime.engines import engine_devices

    device = profile.device.upper()
    said = f"no: {device} not found"
    for engine in profile.engines:
        try:
            names = engine_devices(engine)
        except EdgekitError:
            said = f"unknown: {engine} is not usable"
            continue
        # OpenVINO names devices (GPU.0), ONNX Runtime what its build could use (CUDA…Provider).
        if any(name == f"{device}ExecutionProvider" for name in names):
            return f"CPU yes, {device} unknown"
        if any(name.partition(".")[0] == device for name in names):
            return "yes"
    return said


def _show(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items()) or "–"
    return "–" if value is None else str(value)
