"""``edgekit inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import common, pass_console
from edgekit.core.bundle import Bundle, open_bundle


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@common
@pass_console
def command(console: Console, bundle: Path) -> None:
    """Tell what a bundle is, without loading its model."""
    opened = open_bundle(bundle)
    console.result(opened.manifest.to_dict(), describe(opened))


def describe(bundle: Bundle) -> str:
    """The manifest for a person: a screen of text."""
    manifest = bundle.manifest
    source = manifest.source
    requires = manifest.requires
    facts: list[tuple[str, object]] = [
        ("name", manifest.name),
        ("bundle", bundle.id),
        ("stage", manifest.stage),
        ("task", manifest.task),
    ]
    if source is not None:
        facts += [
            ("source", f"{source.id} ({source.kind}, {source.architecture})"),
            ("parameters", f"{source.parameters:,} stored as {source.dtype}"),
            ("licence", source.license or "not stated"),
        ]
    facts += [
        ("engine", f"{requires.engine} {_at_least(requires.engine_min_version)}".strip()),
        ("needs", _needs(bundle)),
        ("target", (manifest.target or {}).get("name") or "any"),
        ("size", f"{human_bytes(bundle.bytes())} of model files"),
    ]
    if manifest.labels is not None:
        shown = ", ".join(manifest.labels[:8])
        facts.append(("labels", shown + (" …" if len(manifest.labels) > 8 else "")))
    for option, value in manifest.runtime.options.items():
        facts.append(("option", f"{option} = {value}"))
    if manifest.runtime.chosen_by:
        facts.append(("chosen by", _words(manifest.runtime.chosen_by)))
    width = max(len(key) for key, _ in facts)
    lines = [f"{key.ljust(width)}  {value}" for key, value in facts]
    for name, component in manifest.components.items():
        lines.append(f"\n{name}: {component.format}, {', '.join(component.files)}")
        lines += [f"  in   {spec}" for spec in component.inputs]
        lines += [f"  out  {spec}" for spec in component.outputs]
    if manifest.steps:
        lines.append("\nsteps")
        for step in manifest.steps:
            lines.append(f"  {step.step}, {step.seconds:.1f} s ({_words(step.versions)})")
            # Tables and lists are for machines: --json has them.
            plain = {key: v for key, v in step.facts.items() if isinstance(v, (str, int, float))}
            lines += [f"    {key} = {value}" for key, value in plain.items()]
    lines.append("")
    lines.append(
        table(
            ("file", "role", "bytes", "sha256"),
            [(e.path, e.role, f"{e.bytes:,}", e.sha256[:16]) for e in manifest.files],
        )
    )
    return "\n".join(lines)


def _words(values: Mapping[str, object]) -> str:
    """What a table holds, in a line."""
    return ", ".join(
        f"{key} ({_words(value)})" if isinstance(value, Mapping) else f"{key} {value}"
        for key, value in values.items()
    )


def _at_least(version: str | None) -> str:
    return "" if version is None else f"≥ {version}"


def _needs(bundle: Bundle) -> str:
    requires = bundle.manifest.requires
    needs = [*(() if requires.arch is None else (requires.arch,)), *requires.cpu_features]
    if requires.extras:
        needs.append(f"pip install 'edgekit-ml[{','.join(requires.extras)}]'")
    return ", ".join(needs) or "nothing special"
