"""The end of a build: the best candidate that passes, and the bundle that carries the proof."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core.built import BuildCandidate, BuildStep
from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import (
    BudgetNotMet,
    BundleError,
    MeasurementError,
    SessionError,
    StepError,
    disk_errors,
)
from edgekit.core.manifest import Manifest, RuntimeChoice
from edgekit.core.measurements import ValidateResult
from edgekit.core.results import to_json
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.builds.ranking import Rung, Speeds, why_not_run
from edgekit.pipeline.recording import record_evidence
from edgekit.pipeline.validating import validate
from edgekit.reporting import render_html
from edgekit.reporting.reading import NOT_RUN
from edgekit.reporting.writing import RESULT_NAME
from edgekit.runtime.engines import find_engine
from edgekit.runtime.golden import coarsest, stored_precision
from edgekit.runtime.opening import open_model

REPORT = "report.html"
# How the reason begins of a candidate that nothing on this machine can judge.
_UNJUDGED = "built, not run, and nothing here can judge it"
_COMPUTED = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_WORDS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class StandIn:
    """What is judged in a bundle's place, and the precision that this CPU computes it in."""

    bundle: Bundle
    precision: str


def prove(
    job: Job, speeds: Speeds, folder: Path, name: str
) -> tuple[Rung, Bundle, ValidateResult] | None:
    """The first of the ranked candidates that passes, with its evidence recorded.

    `name` is what the bundle will be called: the report tells of it. Of a candidate whose device
    is not here the same graph is judged on this machine's CPU, and that is said; where the CPU has
    no kernels for it, nothing is claimed.
    """
    options = job.options
    others = iter(speeds.order)
    for number, rung in enumerate(others):
        # A cached bundle is never written to.
        path = folder / f"proof-{number}" / name
        other: StandIn | None = None
        notes = told_of(rung, speeds)
        if rung.bundle.manifest.evidence.get("run_on") is not None:
            judged = _copy(rung.bundle, path)
        else:
            try:
                other = stand_in(rung.bundle, path)
            except (SessionError, BundleError) as refusal:
                job.candidates[rung.name] = replace(
                    job.candidates[rung.name],
                    reason=f"{_UNJUDGED}: {job.told(refusal)}",
                )
                continue
            judged = other.bundle
            notes = (not_run_note(rung.bundle, other.precision), *notes)
        job.progress(f"Validating {rung.name}")
        began = time.monotonic()
        problem = None
        try:
            result = validate(
                path, reference=options.source, data=options.data, columns=options.columns,
                metric=options.metric, max_drop=options.max_drop, batch=options.batch,
                length=options.length, threads=options.threads, latency=speeds.measured,
                revision=options.revision, trust_remote_code=options.trust_remote_code,
                inputs=options.inputs, seed=options.seed, progress=job.progress,
            )  # fmt: skip
        except BudgetNotMet as missed:
            if not isinstance(missed.result, ValidateResult):
                raise
            result, problem = missed.result, missed.message.rstrip(".")
        except (MeasurementError, SessionError, BundleError) as error:
            # It is out; the next one may be sound.
            job.errors.append(error)
            found = error.result if isinstance(error.result, ValidateResult) else None
            job.candidates[rung.name] = replace(
                job.candidates[rung.name],
                verdict="fail",
                accuracy=None if found is None else found.accuracy,
                reason=f"could not be judged: {job.told(error)}",
            )
            continue
        job.steps.append(
            BuildStep("validate", rung.name, round(time.monotonic() - began, 3), False, None)
        )
        job.candidates[rung.name] = BuildCandidate(
            rung.name, result.verdict, result.accuracy, result.latency, rung.bundle.bytes(),
            problem is None, problem or speeds.reasons.get(rung.name, "the best that passes"),
        )  # fmt: skip
        if problem is not None:
            continue
        for rest in others:
            why = speeds.reasons.get(rest.name)
            job.candidates[rest.name] = replace(
                job.candidates[rest.name],
                reason="not needed, a better one passed" + (f": {why}" if why else ""),
            )
        tried = tuple(
            f"{one.name}: {'chosen, ' if one.chosen else 'not chosen, '}{one.reason}."
            for one in job.candidates.values()
        )
        proved = judged
        if other is not None:
            # The evidence is of the bundle that ships, which nothing but its device opens.
            proved = _copy(rung.bundle, folder / f"proved-{number}" / name)
            own = {"bundle_id": proved.id, "precision": _shipped_precision(proved.manifest)}
            result = replace(result, bundle={**result.bundle, **own})
        stood_in = None if other is None else {"judged_on": "cpu", "precision": other.precision}
        record_evidence(proved, result, data=options.data, stood_in=stood_in)
        return (
            rung,
            open_bundle(proved.path, check="quick"),
            # What calibrated it and what judged it come from one DATA: some is said twice.
            replace(result, notes=tuple(dict.fromkeys((*notes, *tried, *result.notes)))),
        )
    return None


def told_of(rung: Rung, speeds: Speeds) -> tuple[str, ...]:
    """What a person should know of a candidate: of the measurement, and of how it was made."""
    return tuple(dict.fromkeys((*speeds.notes, *rung.notes)))


def unjudged(job: Job, speeds: Speeds) -> list[Rung]:
    """The ranked candidates that nothing on this machine could judge, in their order."""
    return [one for one in speeds.order if job.candidates[one.name].reason.startswith(_UNJUDGED)]


def stand_in(bundle: Bundle, path: Path) -> StandIn:
    """A bundle's own files for this machine's CPU, whatever device and processor it asks for.

    It computes in the precision that the bundle asks for where this CPU does, and otherwise in
    float32. Raises SessionError or BundleError where the CPU has no kernels for it.
    """
    manifest = bundle.manifest
    requires = replace(manifest.requires, arch=None, cpu_features=())
    options = dict(manifest.runtime.options)
    hint = options.get("precision_hint")
    if (manifest.target or {}).get("device", "cpu") != "cpu":
        # What tunes the device means nothing to the CPU.
        options = {} if hint is None else {"precision_hint": hint}
    if hint is not None:
        asked = replace_manifest(bundle, requires=requires, runtime=RuntimeChoice(options))
        try:
            computed = _computed(asked)
        except (SessionError, BundleError):
            computed = None
        if computed == _COMPUTED.get(str(hint)):
            return StandIn(_copy(asked, path), str(computed))
    options |= find_engine(manifest.requires.engine).EXACT_OPTIONS
    exact = replace_manifest(bundle, requires=requires, runtime=RuntimeChoice(options))
    computed = _computed(exact)
    return StandIn(_copy(exact, path), computed)


def _computed(bundle: Bundle) -> str:
    """The precision that the engine computes a bundle's floats in on this machine."""
    with open_model(bundle) as model:
        return str(model.facts().get("precision", "fp32"))


def _shipped_precision(manifest: Manifest) -> str:
    """What a bundle is stored and asks to be computed in, the coarser of the two."""
    hint = str(manifest.runtime.options.get("precision_hint"))
    return coarsest(stored_precision(manifest), _COMPUTED.get(hint, "fp32"))


def replace_manifest(bundle: Bundle, **changes: object) -> Bundle:
    """The bundle as its files would be under another manifest."""
    return replace(bundle, manifest=replace(bundle.manifest, **changes))  # type: ignore[arg-type]


def not_run_note(bundle: Bundle, computed: str | None) -> str:
    """What a verdict rests on that was reached without the target.

    `computed` is the precision of this machine's CPU; None where it could not judge at all.
    """
    manifest = bundle.manifest
    target = (manifest.target or {}).get("name")
    why = f"{NOT_RUN} {target}: {why_not_run(bundle)}."
    if computed is None:
        return (
            f"{why} Nothing on this machine can judge it, so that nothing is claimed of it. Judge"
            " it there with: edgekit validate --record."
        )
    shipped = _shipped_precision(manifest)
    unseen = (
        f" What {_WORDS[shipped]} loses, or overflows in, cannot show here."
        if shipped in _WORDS and shipped not in (computed, "fp32")
        else ""
    )
    return (
        f"{why} The same graph was judged on this machine's CPU ({manifest.requires.engine}),"
        f" computed in {_WORDS.get(computed, computed)}, which may round otherwise than the"
        f" device; speed and memory are not measured.{unseen} Check it"
        " there with: edgekit verify."
    )


def _copy(bundle: Bundle, path: Path) -> Bundle:
    """The bundle under the name that it will have."""
    with disk_errors(StepError, f"making {path.parent}"):
        path.parent.mkdir()
    with BundleWriter(path, error=StepError) as writer:
        writer.copy_from(bundle)
        writer.stage(replace(bundle.manifest, name=path.name))
        return writer.commit()


def write_proved(
    bundle: Bundle, validation: ValidateResult, output: Path, *, force: bool
) -> Bundle:
    """The bundle at the output, with the report and the whole result inside."""
    plain = to_json(validation)
    found = plain if isinstance(plain, dict) else {}
    with BundleWriter(output, force=force, error=StepError) as writer:
        writer.copy_from(bundle)
        for name, text in ((REPORT, render_html(found)), (RESULT_NAME, _json(found))):
            with disk_errors(StepError, f"writing {name} of {output}"):
                writer.add(name, "evidence").write_text(text, encoding="utf-8")
        writer.stage(replace(bundle.manifest, name=output.name))
        return Bundle(output, writer.commit().manifest)


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
