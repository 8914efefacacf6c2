"""``edgekit targets``."""

from __future__ import annotations

import click

from edgekit.cli.console import Console, table
from edgekit.cli.options import common, pass_console
from edgekit.core.profiles import list_profiles, load_profile


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
            "yes" if profile.runs_here() else "no",
        )
        for profile in profiles
    ]
    header = ("target", "engines", "device", "arch", "precisions", "status", "CPU fits")
    console.result({"targets": [profile.to_json() for profile in profiles]}, table(header, rows))


def _show(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items()) or "–"
    return "–" if value is None else str(value)
