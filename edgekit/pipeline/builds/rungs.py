"""The candidates of a build: exported once, quantized and compiled for each engine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.core.built import BuildCandidate
from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import (
    ConfigError,
    EdgekitError,
    MissingDependency,
    SourceError,
    StepError,
)
from edgekit.core.measurements import QuantizeResult
from edgekit.core.onnx_file import names_onnx
from edgekit.core.profiles import Profile
from edgekit.core.results import to_json
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.builds.keys import (
    bundle_key,
    data_key,
    host_key,
    metric_key,
    source_key,
    versions_key,
)
from edgekit.pipeline.builds.ranking import Rung
from edgekit.pipeline.compiling import compile
from edgekit.pipeline.exporting import export
from edgekit.pipeline.importing import import_onnx
from edgekit.pipeline.quantizing import quantize
from edgekit.quantization.emulating import find_emulator
from edgekit.sources.data_pictures import file_columns, reads_files

_QUANTIZED = ("int8", "int4")
# From the most exact to the least: what is not faster than the one before it is not worth it.
_EXACT_FIRST = ("fp32", "bf16", "fp16", *_QUANTIZED)


def exported_by(job: Job) -> Bundle:
    """The source as an ONNX bundle, or what an earlier build has made of the same source."""
    options = job.options
    began = time.monotonic()
    key = source_key(options.source, options.revision)
    if options.processor is not None:
        # It may name files of its own, as that of the labels.
        key = None
    if key is not None:
        told = options.told("task", "inputs", "trust_remote_code", "seed")
        key = {**key, **told, **versions_key()}

    imports = names_onnx(options.source)

    def make(path: Path) -> Mapping[str, object]:
        if imports:
            _import(job, path)
            return {}
        export(
            options.source, path, task=options.task, inputs=options.inputs,
            revision=options.revision, trust_remote_code=options.trust_remote_code,
            processor=options.processor, seed=options.seed, progress=job.progress,
        )  # fmt: skip
        return {}

    name = "import" if imports else "export"
    return job.run(name, name, job.store.step(name, key, make), began)


def _import(job: Job, path: Path) -> None:
    """The bundle of an ONNX file, or a copy of one that was imported before."""
    options = job.options
    if not Path(options.source).expanduser().is_dir():
        try:
            import_onnx(
                options.source, path, task=options.task, processor=options.processor,
                inputs=options.inputs, seed=options.seed, progress=job.progress,
            )  # fmt: skip
        except SourceError as error:
            if "--samples" not in (error.hint or ""):
                raise
            # A build makes its inputs up.
            raise SourceError(
                error.message,
                hint=f"Import it first: edgekit import {options.source} -o BUNDLE --samples"
                " FILE.npz, one array per input; then build from BUNDLE.",
            ) from error
        return
    bundle = open_bundle(Path(options.source).expanduser())
    if bundle.manifest.stage != "imported":
        raise ConfigError(
            f"{bundle.path} is a bundle of the stage {bundle.manifest.stage}; build starts from a"
            " source, or from an imported bundle.",
            hint="Name the source that it was made from.",
        )
    settled = {
        "--task": options.task, "--input": options.inputs, "--processor": options.processor,
    }  # fmt: skip
    for option, given in settled.items():
        if given:
            raise ConfigError(
                f"{option} was settled when {bundle.path} was imported.",
                hint=f"Leave {option} away, or import the model again.",
            )
    with BundleWriter(path, error=StepError) as writer:
        writer.copy_from(bundle)
        writer.stage(bundle.manifest)
        writer.commit()


def rungs_of(
    job: Job,
    exported: Bundle,
    profile: Profile,
    unprovable: str | None,
    *,
    only: bool,
    called: str = "",
) -> list[Rung]:
    """The candidates of one engine that could be made, the most exact first.

    `unprovable` says why no quantized one is to be tried; `only` that there is no other engine:
    what it lacks is then not a candidate's matter. Names begin with what the export is `called`.
    """
    wanted = [name for name in _EXACT_FIRST if name in {*profile.precisions, "fp32"}]
    found: list[Rung] = []
    for precision in wanted:
        name = f"{called} {profile.engine} {precision}".lstrip()
        if unprovable is not None and precision in _QUANTIZED:
            job.candidates[name] = BuildCandidate(
                name, "inconclusive", None, None, None, False, unprovable
            )
            continue
        job.progress(f"Candidate {name}")
        try:
            rung = _rung(job, exported, profile, name, precision)
        except ConfigError:
            raise
        except EdgekitError as error:
            if only and isinstance(error, MissingDependency):
                raise
            job.errors.append(error)
            missed = error.result if isinstance(error.result, QuantizeResult) else None
            job.candidates[name] = BuildCandidate(
                name,
                "fail" if missed is None else missed.verdict,
                None if missed is None else missed.accuracy,
                None, None, False, job.told(error),
            )  # fmt: skip
            continue
        if rung is None:
            continue
        found.append(rung)
        job.candidates[name] = BuildCandidate(
            name, "inconclusive", None, None, rung.bundle.bytes(), False, "not judged"
        )
    return found


def _rung(job: Job, exported: Bundle, profile: Profile, name: str, precision: str) -> Rung | None:
    """One candidate, compiled; None for a precision that this engine has no use for."""
    before, overrides = exported, list(job.options.overrides)
    notes: tuple[str, ...] = ()
    if precision in _QUANTIZED:
        before, notes = _quantized(job, exported, profile, name, precision)
    elif precision in ("bf16", "fp16"):
        if profile.engine == "onnxruntime" and profile.device == "cpu":
            # Its CPU kernels compute in float32 whatever is stored.
            return None
        if profile.engine == "openvino":
            hint = {"bf16": "bf16", "fp16": "f16"}[precision]
            overrides.append(f"options.openvino.precision_hint={hint}")
        else:
            overrides.append(f"options.onnxruntime.precision={precision}")
    elif profile.engine == "openvino":
        overrides.append("options.openvino.precision_hint=f32")
    options = job.options
    # One call of a decoder chooses its options: of a length are the prompts that it is ranked by.
    length = options.length if exported.manifest.generation is None else None
    began = time.monotonic()
    key = {
        **bundle_key(before),
        "engine": profile.engine,
        "target": profile.to_json(),
        "overrides": overrides,
        **options.told("batch", "length", "threads", "seed"),
        **versions_key(),
        **host_key(),
    }

    def make(path: Path) -> Mapping[str, object]:
        compile(
            before.path, path, target=options.target, engine=profile.engine, overrides=overrides,
            batch=options.batch, length=length, threads=options.threads,
            seed=options.seed, progress=job.progress,
        )  # fmt: skip
        return {}

    bundle = job.run("compile", name, job.store.step("compile", key, make), began)
    return Rung(name, profile.engine, precision, bundle, notes)


def _quantized(
    job: Job, exported: Bundle, profile: Profile, name: str, precision: str
) -> tuple[Bundle, tuple[str, ...]]:
    """The export quantized for one engine, and what the step has to tell a person."""
    options = job.options
    began = time.monotonic()
    bits = {"int8": 8, "int4": 4}[precision]
    reference = options.source if options.data is not None else None
    key = None
    manifest = exported.manifest
    column = next(iter(file_columns(manifest.task, reads_files(manifest))), None)
    known = (
        data_key(options.data, column=column),
        data_key(options.calibration, column=column),
        metric_key(options.metric),
    )
    if None not in known:
        key = {
            **bundle_key(exported),
            "engine": profile.engine,
            "target": profile.to_json(),
            "data": list(known),
            "bits": bits,
            **options.told(
                "columns",
                "max_drop",
                "batch",
                "length",
                "threads",
                "overrides",
                "trust_remote_code",
                "seed",
            ),
            **versions_key(),
            **host_key(),
            # Where it is installed, the answers without VNNI are part of the verdict.
            "emulator": list(find_emulator() or ()),
        }

    def make(path: Path) -> Mapping[str, object]:
        result = quantize(
            exported.path, path, target=options.target, engine=profile.engine,
            overrides=options.overrides, bits=bits, calibration=options.calibration,
            data=options.data, columns=options.columns, metric=options.metric,
            reference=reference, max_drop=options.max_drop, batch=options.batch,
            length=options.length, threads=options.threads, revision=options.revision,
            trust_remote_code=options.trust_remote_code, inputs=options.inputs,
            seed=options.seed, progress=job.progress,
        )  # fmt: skip
        plain = to_json(result)
        return plain if isinstance(plain, dict) else {}

    kept = job.store.step("quantize", key, make)
    notes = kept.facts.get("notes")
    told = tuple(str(note) for note in notes) if isinstance(notes, Sequence) else ()
    return job.run("quantize", name, kept, began), told
