"""Which candidate of a build comes first: by measurement, where the target is this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle
from edgekit.core.measurements import BenchResult, Noise
from edgekit.core.profiles import Profile
from edgekit.evaluation.latency import bench
from edgekit.evaluation.measuring import Measuring
from edgekit.pipeline.choices.candidates import elsewhere
from edgekit.pipeline.fitting import workload_for
from edgekit.pipeline.progress import Progress
from edgekit.reporting import words
from edgekit.runtime.scenarios import make_scenario

if TYPE_CHECKING:
    from edgekit.pipeline.builds.jobs import Goal, Options

_BUDGET_SECONDS = 20.0
_PROCESSES = 6


@dataclass(frozen=True)
class Rung:
    """A compiled candidate: an engine at a precision. ``notes`` are of what quantized it."""

    name: str
    engine: str
    precision: str
    bundle: Bundle
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speeds:
    """The candidates in the order in which they are to be validated.

    ``rejected`` says why others are not among them, ``reasons`` why each stands where it does;
    ``measured`` is False where this machine is not the target. ``notes`` are sentences for a
    person.
    """

    order: tuple[Rung, ...]
    measured: bool
    rejected: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def rank(
    rungs: Sequence[Rung], profile: Profile, goal: Goal, options: Options, progress: Progress
) -> Speeds:
    """The candidates, the best for the goal first; a less exact one has to be the faster one."""
    here = _elsewhere(rungs, profile)
    if goal == "size":
        order = sorted(rungs, key=lambda rung: rung.bundle.bytes())
        unmeasured = "" if here is None else f"; speed not measured: {here}"
        reasons = {rung.name: f"{words.size(rung.bundle.bytes())}{unmeasured}" for rung in rungs}
        return Speeds(tuple(order), here is None, reasons=reasons)
    if here is not None:
        places = {name: place for place, name in enumerate(profile.precisions)}
        order = sorted(rungs, key=lambda rung: places.get(rung.precision, len(places)))
        reasons = {rung.name: f"by the profile's order; not measured: {here}" for rung in rungs}
        return Speeds(tuple(order), False, reasons=reasons)
    if len(rungs) < 2:
        return Speeds(tuple(rungs), True)
    progress("Measuring the candidates against each other")
    found = _measure(rungs, profile, goal, options, lambda text: progress(_named(text, rungs)))
    error = found.contenders[0].error
    if error is None:
        return _by_speed(rungs, found)
    # Nothing was compared with the first one: the others need another measure.
    others = rank(rungs[1:], profile, goal, options, progress)
    failed = _named(_unmeasured(error), rungs)
    return replace(others, rejected={rungs[0].name: failed, **others.rejected})


def why_not_run(bundle: Bundle) -> str | None:
    """Why a bundle was not run on its target; None where it was."""
    if bundle.manifest.evidence.get("run_on") is not None:
        return None
    facts = bundle.manifest.steps[-1].facts if bundle.manifest.steps else {}
    return str(facts.get("not_run") or "its device is not here").rstrip(".")


def _elsewhere(rungs: Sequence[Rung], profile: Profile) -> str | None:
    """Why the candidates cannot be timed here, None where they can.

    Whether an accelerator is here is known from what has been run on it, not from its name.
    """
    if profile.device == "cpu":
        return elsewhere(profile)
    return next((why for rung in rungs if (why := why_not_run(rung.bundle)) is not None), None)


def _measure(
    rungs: Sequence[Rung], profile: Profile, goal: Goal, options: Options, progress: Progress
) -> BenchResult:
    workload = workload_for(profile, rungs[0].bundle, options.batch, options.length)
    length = workload.get("length")
    measuring = Measuring(
        batches=(workload["batch"],),
        lengths=None if length is None else (length,),
        threads=options.threads or profile.threads or None,
        budget=_BUDGET_SECONDS,
        processes=_PROCESSES,
        seed=options.seed,
        scenario=make_scenario("offline" if goal == "throughput" else "single-stream"),
    )
    return bench([rung.bundle.path for rung in rungs], None, measuring, progress=progress)


def _unmeasured(error: str) -> str:
    return f"could not be measured: {error}".rstrip(".")


def _by_speed(rungs: Sequence[Rung], found: BenchResult) -> Speeds:
    """By the ratio to the first candidate; what failed to be measured is out.

    A less exact one must be faster by the bad end of its interval: exactness is given away for a
    gain that is there, not for one that may be.
    """
    names = list(dict.fromkeys(row.name for row in found.contenders))
    failed = {row.name: row.error for row in found.contenders if row.error is not None}
    ratios = {one.b: one for one in found.ratios}
    speeds: dict[str, float] = {}
    least: dict[str, float] = {}
    reasons: dict[str, str] = {}
    rejected: dict[str, str] = {}
    for rung, name in zip(rungs, names, strict=True):
        if name in failed:
            rejected[rung.name] = _named(_unmeasured(failed[name]), rungs)
            continue
        one = ratios.get(name)
        speeds[rung.name] = 1.0 if one is None else one.value
        least[rung.name] = 1.0 if one is None else one.low
        reasons[rung.name] = (
            "what the speed of the others is measured by"
            if one is None
            else f"{words.times(one.value)} {rungs[0].name} ({words.interval(one)})"
        )
    kept: list[Rung] = []
    for rung in rungs:
        if rung.name not in speeds:
            continue
        before = [one for one in kept if one.engine == rung.engine]
        exact = max(before, key=lambda one: speeds[one.name], default=None)
        if exact is not None and least[rung.name] <= speeds[exact.name]:
            shown = "not faster" if speeds[rung.name] <= speeds[exact.name] else "not surely faster"
            rejected[rung.name] = (
                f"{shown} than {exact.name}, which is more exact: {reasons[rung.name]}"
            )
            continue
        kept.append(rung)
    kept.sort(key=lambda rung: -speeds[rung.name])
    return Speeds(tuple(kept), True, rejected, reasons, _noise(found.noise, rungs))


def _noise(noise: Noise, rungs: Sequence[Rung]) -> tuple[str, ...]:
    """What a noisy comparison means for the order."""
    if noise.verdict != "noisy":
        return ()
    told = "; ".join(line.strip().rstrip(".") for line in words.noise(noise))
    return (
        f"The candidates were compared in a noisy run ({_named(told, rungs)}): which of them is"
        " the best is less sure.",
    )


def _named(text: str, rungs: Sequence[Rung]) -> str:
    """A text in which candidates are called as a person knows them, not as their folders."""
    for rung in rungs:
        text = text.replace(str(rung.bundle.path), rung.name)
        text = text.replace(rung.bundle.path.name, rung.name)
    return text
