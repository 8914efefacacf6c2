"""The end of a build: the best candidate that passes, and the bundle that carries the proof."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import (
    BudgetNotMet,
    BundleError,
    EdgekitError,
    SessionError,
    StepError,
    disk_errors,
)
from edgekit.core.manifest import RuntimeChoice
from edgekit.core.measurements import BuildCandidate, BuildStep, ValidateResult
from edgekit.core.results import to_json
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.builds.ranking import Rung, Speeds
from edgekit.pipeline.recording import record_evidence
from edgekit.pipeline.validating import validate
from edgekit.reporting import render_html
from edgekit.reporting.reading import NOT_RUN
from edgekit.reporting.writing import RESULT_NAME
from edgekit.runtime.engines import find_engine
from edgekit.runtime.opening import open_model

REPORT = "report.html"


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
        here = rung.bundle.manifest.evidence.get("run_on") is not None
        judged = _copy(rung.bundle, path) if here else stand_in(rung.bundle, path)
        job.progress(f"Validating {rung.name}")
        began = time.monotonic()
        problem, notes = None, speeds.notes
        if not here:
            found = _refusal(judged)
            if found is not None:
                job.candidates[rung.name] = replace(
                    job.candidates[rung.name],
                    reason="built, not run, and nothing here can judge it:"
                    f" {found.message.rstrip('.')}",
                )
                continue
            notes = (not_run_note(rung.bundle), *notes)
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
        job.steps.append(
            BuildStep("validate", rung.name, round(time.monotonic() - began, 3), False, None)
        )
        job.candidates[rung.name] = BuildCandidate(
            rung.name, result.verdict, result.accuracy, result.latency, rung.bundle.bytes(),
            problem is None, problem or speeds.reasons.get(rung.name, "the best that passes"),
        )  # fmt: skip
        if problem is not None:
            continue
        for other in others:
            why = speeds.reasons.get(other.name)
            job.candidates[other.name] = replace(
                job.candidates[other.name],
                reason="not needed, a better one passed" + (f": {why}" if why else ""),
            )
        tried = tuple(
            f"{one.name}: {'chosen, ' if one.chosen else 'not chosen, '}{one.reason}."
            for one in job.candidates.values()
        )
        proved = judged
        if not here:
            # The evidence is of the bundle that ships, which nothing but its device opens.
            proved = _copy(rung.bundle, folder / f"proved-{number}" / name)
            result = replace(result, bundle={**result.bundle, "bundle_id": proved.id})
        record_evidence(proved, result, data=options.data)
        return (
            rung,
            open_bundle(proved.path, check="quick"),
            replace(result, notes=(*notes, *tried, *result.notes)),
        )
    return None


def stand_in(bundle: Bundle, path: Path) -> Bundle:
    """A bundle's own files for this machine's CPU, whatever device and processor it asks for."""
    manifest = bundle.manifest
    requires = replace(manifest.requires, arch=None, cpu_features=())
    runtime = manifest.runtime
    if (manifest.target or {}).get("device", "cpu") != "cpu":
        # What tunes the device means nothing to the CPU.
        runtime = RuntimeChoice(dict(find_engine(manifest.requires.engine).EXACT_OPTIONS))
    return _copy(replace_manifest(bundle, requires=requires, runtime=runtime), path)


def replace_manifest(bundle: Bundle, **changes: object) -> Bundle:
    """The bundle as its files would be under another manifest."""
    return replace(bundle, manifest=replace(bundle.manifest, **changes))  # type: ignore[arg-type]


def _refusal(bundle: Bundle) -> EdgekitError | None:
    """What this CPU says against opening a bundle, None where it opens it."""
    try:
        open_model(bundle).close()
    except (SessionError, BundleError) as error:
        return error
    return None


def why_not_run(bundle: Bundle) -> str | None:
    """Why a bundle was not run on its target; None where it was."""
    if bundle.manifest.evidence.get("run_on") is not None:
        return None
    facts = bundle.manifest.steps[-1].facts if bundle.manifest.steps else {}
    return str(facts.get("not_run") or "its device is not here").rstrip(".")


def not_run_note(bundle: Bundle) -> str:
    """What a verdict rests on that was reached without the target."""
    manifest = bundle.manifest
    target = (manifest.target or {}).get("name")
    return (
        f"{NOT_RUN} {target}: {why_not_run(bundle)}. The same graph was judged on this"
        f" machine's CPU ({manifest.requires.engine}), which may round otherwise than the device;"
        " speed and memory are not measured. Check it there with: edgekit verify."
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
