"""The end of a build: the best candidate that passes, and the bundle that carries the proof."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import BudgetNotMet, StepError, disk_errors
from edgekit.core.measurements import BuildCandidate, BuildStep, ValidateResult
from edgekit.core.results import to_json
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.builds.ranking import Rung, Speeds
from edgekit.pipeline.validating import validate
from edgekit.reporting import render_html
from edgekit.reporting.writing import RESULT_NAME

REPORT = "report.html"


def prove(
    job: Job, speeds: Speeds, folder: Path, name: str
) -> tuple[Rung, Bundle, ValidateResult] | None:
    """The first of the ranked candidates that passes, with its evidence recorded.

    `name` is what the bundle will be called: the report tells of it.
    """
    options = job.options
    others = iter(speeds.order)
    for number, rung in enumerate(others):
        # A cached bundle is never written to.
        path = folder / f"proof-{number}" / name
        _copy(rung.bundle, path)
        job.progress(f"Validating {rung.name}")
        began = time.monotonic()
        problem = None
        try:
            result = validate(
                path, reference=options.source, data=options.data, columns=options.columns,
                metric=options.metric, max_drop=options.max_drop, batch=options.batch,
                length=options.length, threads=options.threads, latency=speeds.measured,
                record=True, revision=options.revision,
                trust_remote_code=options.trust_remote_code, inputs=options.inputs,
                seed=options.seed, progress=job.progress,
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
        if problem is None:
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
            return (
                rung,
                open_bundle(path, check="quick"),
                replace(result, notes=(*tried, *result.notes)),
            )
    return None


def _copy(bundle: Bundle, path: Path) -> None:
    """The bundle under the name that it will have."""
    with disk_errors(StepError, f"making {path.parent}"):
        path.parent.mkdir()
    with BundleWriter(path, error=StepError) as writer:
        writer.copy_from(bundle)
        writer.stage(replace(bundle.manifest, name=path.name))
        writer.commit()


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
