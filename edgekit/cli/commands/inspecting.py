"""``edgekit inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.commands._cached import generation_facts, spec_lines
from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import BundlePath, common, pass_console
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import BundleError, ConfigError
from edgekit.core.lazy import DISTRIBUTION
from edgekit.core.manifest import Manifest, Step

if TYPE_CHECKING:
    from edgekit.core.measurements import Accuracy, Latency

# Operators kept in float that a screen shows; the JSON tells all.
_KEPT = 20


@click.command("inspect")
@click.argument("bundle", type=BundlePath())
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
            ("parameters", f"{source.parameters:,}, stored as {source.dtype} in the source"),
            ("licence", source.license or "not stated"),
        ]
    precision = _precision(manifest.steps)
    if precision is not None:
        facts.append(("precision", precision))
    facts += [
        ("engine", f"{requires.engine} {_at_least(requires.engine_min_version)}".strip()),
        ("needs", _needs(bundle)),
        ("target", (manifest.target or {}).get("name") or "any"),
        ("size", f"{human_bytes(bundle.bytes())} of model files"),
    ]
    facts += _heard(manifest.processor or {})
    facts += generation_facts(manifest.generation)
    if manifest.labels is not None:
        shown = ", ".join(manifest.labels[:8])
        facts.append(("labels", shown + (" …" if len(manifest.labels) > 8 else "")))
    for option, value in manifest.runtime.options.items():
        facts.append(("option", f"{option} = {value}"))
    if manifest.runtime.chosen_by:
        facts.append(("chosen", _choice(manifest.runtime.chosen_by)))
    facts += _quantized(manifest)
    facts += _recorded(bundle)
    width = max(len(key) for key, _ in facts)
    lines = [f"{key.ljust(width)}  {value}" for key, value in facts]
    for name, component in manifest.components.items():
        lines.append(f"\n{name}: {component.format}, {', '.join(component.files)}")
        lines += [f"  in   {spec}" for spec in spec_lines(component.inputs)]
        lines += [f"  out  {spec}" for spec in spec_lines(component.outputs)]
    kept = _kept_float(manifest.steps)
    if kept:
        lines.append("\n" + table(("kept in float", "why"), kept))
    if manifest.steps:
        lines.append("\nsteps")
        common = _common_versions(manifest.steps)
        if common:
            lines.append(f"  made with {_words(common)}")
        for step in manifest.steps:
            own = {key: value for key, value in step.versions.items() if key not in common}
            with_them = f", with {_words(own)}" if own else ""
            lines.append(f"  {step.step}, {step.seconds:.1f} s{with_them}")
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


def _heard(processor: Mapping[str, object]) -> list[tuple[str, object]]:
    """How a model of sounds takes them: the rate, and how much at once."""
    if processor.get("kind") != "audio":
        return []
    # Only here: numpy is not needed to inspect other bundles.
    from edgekit.runtime.sound.rules import read_sound_rules

    try:
        rules = read_sound_rules(processor)
    except BundleError as error:
        return [("hears", f"not readable: {error.message}")]
    rate = rules.sampling_rate
    if rules.window is not None:
        most = f"the first {rules.window / rate:.1f} s"
    elif rules.post.get("kind") == "ctc":
        most = f"in pieces of {rules.longest / rate:.1f} s"
    else:
        most = f"up to {rules.longest / rate:.1f} s"
    return [("hears", f"mono at {rate:,} Hz, {most}")]


def _words(values: Mapping[str, object]) -> str:
    """What a table holds, in a line."""
    return ", ".join(
        f"{key} ({_words(value)})" if isinstance(value, Mapping) else f"{key} {value}"
        for key, value in values.items()
    )


def _common_versions(steps: Sequence[Step]) -> dict[str, str]:
    """The versions on which all steps that name the package agree."""
    found: dict[str, set[str]] = {}
    for step in steps:
        for package, version in step.versions.items():
            found.setdefault(package, set()).add(version)
    return {package: versions.pop() for package, versions in found.items() if len(versions) == 1}


def _choice(chosen_by: Mapping[str, object]) -> str:
    """What the options were chosen by, as the compiler records it (see `compilers/tuning.py`)."""
    what, against = chosen_by.get("what"), chosen_by.get("against")
    ratio, low, high = (_number(chosen_by, key) for key in ("ratio", "low", "high"))
    if what is None:
        return _words({k: v for k, v in chosen_by.items() if not isinstance(v, list)})
    text = str(what)
    if against is not None and ratio is not None and low is not None and high is not None:
        unclear = ", not resolved" if low <= 1 <= high else ""
        text += f": {ratio:.2f}× as fast as {against} ({low:.2f}–{high:.2f}{unclear})"
    workload, threads = chosen_by.get("workload"), chosen_by.get("threads")
    conditions = dict(workload) if isinstance(workload, Mapping) else {}
    if threads is not None:
        conditions["threads"] = threads
    return f"{text}, at {_words(conditions)}" if conditions else text


def _original(manifest: Manifest) -> str:
    """Where the original ran, for a sentence."""
    from edgekit.reporting import words

    return words.original({} if manifest.source is None else {"kind": manifest.source.kind})


def _quantized(manifest: Manifest) -> list[tuple[str, object]]:
    """What `quantize` did and found: the recipe, the accuracy and the speed with their intervals.

    It is told from the step, in which compiled bundles have it too.
    """
    step = _quantization(manifest.steps)
    if step is None:
        return []
    told: list[tuple[str, object]] = []
    recipe = step.facts.get("recipe")
    if isinstance(recipe, Mapping):
        scheme = recipe.get("scheme")
        rest = {key: v for key, v in recipe.items() if key not in ("scheme", "levels")}
        told.append(("quantized", f"{scheme}, {_words(rest)}" if rest else str(scheme)))
    # Only here: most bundles hold none.
    from edgekit.core.measurements import Accuracy, Latency
    from edgekit.core.reading import read_record

    accuracy, latency = step.facts.get("accuracy"), step.facts.get("latency")
    try:
        if isinstance(accuracy, Mapping):
            found = read_record(Accuracy, accuracy)
            basis = f"by quantize, {_rows(found, step.facts.get('judged_on'))}"
            told += _accuracy(found, basis, _original(manifest))
        if isinstance(latency, Mapping):
            told.append(
                (
                    "speed",
                    _speed(read_record(Latency, latency), "its input", step.facts.get("workload")),
                )
            )
    except ConfigError as error:
        told.append(("quantize", f"not readable: {error.message}"))
    return told


def _quantization(steps: Sequence[Step]) -> Step | None:
    return next((step for step in reversed(steps) if step.step == "quantize"), None)


def _kept_float(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """What could have been quantized and was not: (operator, why)."""
    step = _quantization(steps)
    components = None if step is None else step.facts.get("components")
    found: list[tuple[str, str]] = []
    for part in components.values() if isinstance(components, Mapping) else ():
        kept = part.get("kept_float") if isinstance(part, Mapping) else None
        for one in kept if isinstance(kept, Sequence) else ():
            if isinstance(one, Mapping):
                found.append((str(one.get("node")), str(one.get("reason"))))
    more = len(found) - _KEPT
    return found if more <= 0 else [*found[:_KEPT], (f"and {more} more", "see --json")]


def _precision(steps: Sequence[Step]) -> str | None:
    """What the graph computes in, as the last step that decided it tells."""
    found = (step.facts.get("precision") for step in reversed(steps))
    return next((one for one in found if isinstance(one, str)), None)


def _accuracy(accuracy: Accuracy, basis: str, where: str) -> list[tuple[str, object]]:
    """`basis` says which command found it, and on what: a bundle may hold two of them.

    `where` is where the original ran.
    """
    from edgekit.reporting import words

    said = (
        f"{accuracy.candidate:.4f}, {where} {accuracy.reference:.4f}: drop"
        f" {words.drop(accuracy)} ({basis})"
    )
    return [(accuracy.metric, said)]


def _rows(accuracy: Accuracy, data: object) -> str:
    from edgekit.reporting import words

    of = f" of {data}" if isinstance(data, str) else ""
    return f"{words.counted(accuracy.samples, 'sample')}{of}"


def _speed(latency: Latency, before: str, workload: object = None) -> str:
    from edgekit.reporting import words

    speed = latency.speedup
    unclear = ", not resolved" if speed.low <= 1 <= speed.high else ""
    known = workload if isinstance(workload, Mapping) else {}
    at = words.ran_at(known.get("batch"), known.get("length"), known.get("threads"))
    where = f", at {at}" if at else ""
    return (
        f"{latency.candidate_ms:.2f} ms, {before} {latency.reference_ms:.2f} ms:"
        f" {speed.value:.2f}× ({speed.low:.2f}–{speed.high:.2f}{unclear}){where}"
    )


def _recorded(bundle: Bundle) -> list[tuple[str, object]]:
    """What `validate --record` left: the verdict, the accuracy with its interval, the speed."""
    run_on = bundle.manifest.evidence.get("run_on")
    told: list[tuple[str, object]] = []
    target = (bundle.manifest.target or {}).get("name")
    if run_on is None and "run_on" in bundle.manifest.evidence and target is not None:
        told.append(("run on", f"nothing: built, not run on {target}"))
    if isinstance(run_on, Mapping):
        told.append(("run on", ", ".join(str(run_on[k]) for k in ("cpu", "system") if k in run_on)))
    if "accuracy" not in bundle.manifest.evidence:
        return told
    # Only here: most bundles hold none.
    from edgekit.reporting.reading import against, evidence_result, stood_in

    try:
        result = evidence_result(bundle)
    except ConfigError as error:
        return [*told, ("evidence", f"not readable: {error.message}")]
    accuracy, latency = result.accuracy, result.latency
    without = "" if accuracy else ", from tolerance and gates: there was no data"
    basis = bundle.manifest.evidence.get("basis")
    basis = basis if isinstance(basis, Mapping) else {}
    when = f", {basis['date']}" if isinstance(basis.get("date"), str) else ""
    place = stood_in(basis)
    by = f", {place}" if place else ""
    by += against(basis)
    told.append(("verdict", f"{result.verdict}{without} (validate --record{when}{by})"))
    if accuracy is not None:
        rows = _rows(accuracy, basis.get("data"))
        told += _accuracy(accuracy, f"by validate, {rows}{when}", _original(bundle.manifest))
    if latency is not None:
        workload = bundle.manifest.evidence.get("workload")
        told.append(("speed", _speed(latency, _original(bundle.manifest), workload)))
    return told


def _number(table: Mapping[str, object], key: str) -> float | None:
    value = table.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def _at_least(version: str | None) -> str:
    return "" if version is None else f"≥ {version}"


def _needs(bundle: Bundle) -> str:
    requires = bundle.manifest.requires
    needs = [*(() if requires.arch is None else (requires.arch,)), *requires.cpu_features]
    if requires.extras:
        needs.append(f"{DISTRIBUTION}[{','.join(requires.extras)}]")
    return ", ".join(needs) or "nothing special"
