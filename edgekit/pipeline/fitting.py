"""What a target asks of a compilation: its engine, its workload, its size, its threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path

from edgekit.compilers import CompiledComponent
from edgekit.core import cpu
from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError, StepError
from edgekit.core.manifest import RuntimeChoice
from edgekit.core.profiles import ENGINE_PACKAGES, Profile, nearest
from edgekit.runtime.engines import find_engine
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import fit_workload, make_workloads

_DEFAULT_WORKLOAD = {"batch": 1, "length": 128}


def choose_engine(profile: Profile, engine: str | None) -> Profile:
    """The profile with the wanted engine first.

    Raises ConfigError when the target does not run it, MissingDependency when this host could.
    """
    if engine is None:
        return profile
    if engine not in profile.engines:
        if profile.name == "host" and engine in ENGINE_PACKAGES:
            # It lists the engines that are installed.
            find_engine(engine).version()
        raise ConfigError(
            f"The target {profile.name} does not run the engine {engine!r}.",
            hint=nearest(engine, profile.engines),
        )
    others = tuple(name for name in profile.engines if name != engine)
    return replace(profile, engines=(engine, *others))


def on_engine(bundle: Bundle, engine: str, path: Path, error: type[StepError]) -> Bundle:
    """A bundle as another engine opens it: the same files, another manifest, kept at `path`."""
    manifest = bundle.manifest
    if manifest.requires.engine == engine:
        return bundle
    if path.exists():
        return open_bundle(path, check="quick")
    with BundleWriter(path, error=error) as writer:
        writer.copy_from(bundle)
        extras = {*manifest.requires.extras} - {"ort", "cuda"} | {engine}
        requires = replace(manifest.requires, engine=engine, extras=tuple(sorted(extras)))
        runtime = RuntimeChoice(dict(find_engine(engine).EXACT_OPTIONS))
        writer.stage(replace(manifest, requires=requires, runtime=runtime))
        return writer.commit()


def workload_for(
    profile: Profile, staged: Bundle, batch: int | None, length: int | None
) -> dict[str, int]:
    """The options' workload; the target's, as far as the model takes it, where they say nothing."""
    wanted = {**_DEFAULT_WORKLOAD, **profile.workload}
    rows, tokens = fit_workload(staged, wanted["batch"], wanted["length"])
    workload = {"batch": rows if batch is None else batch}
    tokens = tokens if length is None else length
    return workload if tokens is None else {**workload, "length": tokens}


def feeds_at(
    bundle: Bundle, workload: Mapping[str, int], *, known: Mapping[str, Array] | None = None
) -> Mapping[str, Array]:
    """The inputs of one inference at a workload; see `make_workloads`, which may raise."""
    length = workload.get("length")
    lengths = None if length is None else [length]
    made = make_workloads(bundle, batch=workload["batch"], lengths=lengths, known=known)
    return made[0].feeds


def merged_options(first: Mapping[str, object], second: Mapping[str, object]) -> dict[str, object]:
    """The options of a session, the second over the first; tables among them are merged."""
    merged = {**first, **second}
    for key, value in first.items():
        over = second.get(key)
        if isinstance(value, Mapping) and isinstance(over, Mapping):
            merged[key] = {**value, **over}
    return merged


def check_size(directory: Path, profile: Profile, parts: Mapping[str, CompiledComponent]) -> None:
    """Raise BudgetNotMet when graphs and weights are larger than the target allows."""
    limit = profile.limits.get("size_mb")
    if limit is None:
        return
    files = {name for part in parts.values() for name in part.component.files}
    megabytes = sum((directory / name).stat().st_size for name in files) / 1e6
    if megabytes > limit:
        raise BudgetNotMet(
            f"The compiled model takes {megabytes:.4g} MB; the target {profile.name} allows"
            f" {limit:g} MB.",
            hint="Start from a smaller model, or allow it with"
            f" --set limits.size_mb={ceil(megabytes)}.",
        )


def threads_note(threads: int) -> str | None:
    """A sentence for a person where a compilation is measured with more threads than CPUs."""
    present = cpu.available_threads()
    if threads <= present:
        return None
    return (
        f"{threads} threads share the {present} CPUs that this process may use: what was measured"
        " here says little of a device that has them all."
    )
