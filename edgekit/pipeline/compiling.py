"""compile: a bundle becomes what a target's engine loads fastest, run in it where it is here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.compilers import CompiledComponent, find_compiler
from edgekit.compilers.records import combine_requires
from edgekit.core import cpu
from edgekit.core.bundle import Bundle, BundleWriter, check_output, open_bundle
from edgekit.core.errors import CompileError, EngineUnavailable
from edgekit.core.manifest import Manifest, RuntimeChoice, Step
from edgekit.core.profiles import Profile, load_profile
from edgekit.core.results import CompileResult
from edgekit.pipeline.compilation import NOTHING, Compilation, engine_errors
from edgekit.pipeline.fitting import check_size, choose_engine, merged_options, threads_note
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import created_by, versions
from edgekit.runtime.golden import coarsest, read
from edgekit.runtime.opening import open_session
from edgekit.runtime.pictures.predicting import check_graph
from edgekit.runtime.sound.reader import check_graph as check_sounds


def compile(
    bundle: Path | str,
    output: Path | str,
    *,
    target: str = "host",
    engine: str | None = None,
    static: Mapping[str, int] | None = None,
    overrides: Sequence[str] = (),
    batch: int | None = None,
    length: int | None = None,
    threads: int | None = None,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> CompileResult:
    """Compile a bundle for a target into a new bundle at `output`.

    Where this machine satisfies the target, the artifact is opened in its engine, compared with
    the golden answers of PyTorch, and its session options are chosen by measuring them at one
    workload. Elsewhere it is checked structurally, and ``run_on`` is None.

    Args:
        target: a profile's name or a .toml file; ``overrides`` are ``key=value`` texts on top.
        engine: one of the target's engines; its first by default.
        static: sizes of named dimensions to fix.
        batch, length: the workload to choose for; the target's by default.

    Raises:
        ConfigError: wrong options, or an output that must not be written.
        BundleError: the input bundle cannot be trusted.
        CompileError: it cannot become one for this target, or the result answers differently.
        BudgetNotMet: its files are larger than the target's ``limits.size_mb``.
    """
    started = time.monotonic()
    check_output(Path(output), force=force, inputs=[Path(bundle)])
    source = open_bundle(bundle)
    stored = source.manifest.golden
    golden = None if stored is None else read(source.file(stored.file))
    profile = _choose_engine(load_profile(target, overrides=overrides), engine, source)
    if threads is not None:
        # The compiler writes them into the options: the bundle is tuned for this number.
        profile = replace(profile, threads=threads)
    compiler = find_compiler(profile.engine)
    sizes = dict(static or {})
    compiler.check(source, profile, sizes)
    with BundleWriter(output, force=force, error=CompileError) as writer:
        progress(f"Compiling for {profile.engine} on {profile.name}")
        parts = {
            name: compiler.compile_component(source, name, profile, writer.directory, static=sizes)
            for name in source.manifest.components
        }
        for part in parts.values():
            for name, role in part.files.items():
                writer.add(name, role)
        check_size(writer.directory, profile, parts)
        writer.copy_from(source, "processor", "license")
        manifest = _manifest(Path(output).name, source, profile, parts)
        with engine_errors("fitting the processor to the compiled graph"):
            _check_media(manifest)
        job = Compilation(writer, source, golden, profile, compiler, parts, progress)
        reason = _not_here(writer.stage(manifest), profile, threads)
        if reason is not None:
            manifest = job.build_only(manifest, reason)
        else:
            manifest = job.run_here(manifest, batch, length, threads, seed)
        step = replace(manifest.steps[-1], seconds=round(time.monotonic() - started, 3))
        options = {"target": target, "engine": engine, "static": sizes, "set": list(overrides),
                   "batch": batch, "length": length, "threads": threads, "seed": seed}  # fmt: skip
        step = replace(step, options=options)
        staged = writer.stage(replace(manifest, steps=(*manifest.steps[:-1], step)))
        result = CompileResult(
            output=Path(output),
            bundle_id=staged.id,
            target=profile.name,
            engine=profile.engine,
            device=profile.device,
            runtime=staged.manifest.runtime.options,
            bytes=staged.bytes(),
            load_ms=_load_ms(staged, threads) if staged.manifest.evidence["run_on"] else None,
            run_on=staged.manifest.evidence["run_on"],  # type: ignore[arg-type]
        )
        writer.commit()
    # Parts made for one target have some notes in common.
    notes = dict.fromkeys(note for part in parts.values() for note in part.notes)
    crowded = threads_note(threads or 0) if result.run_on is not None else None
    for note in (*notes, *filter(None, [crowded])):
        progress(note)
    if "compared_reason" in step.facts:
        how_much = "none were" if step.facts["compared"] == NOTHING else "not all were"
        progress(f"Of its answers {how_much} compared: {step.facts['compared_reason']}.")
    return result


def _check_media(manifest: Manifest) -> None:
    """Whether pictures or sounds fit the graph still, whose sizes may have been fixed.

    Raises BundleCorrupt, BundleVersion.
    """
    processor = manifest.processor or {}
    for part, component in manifest.components.items():
        own = processor.get(part, processor)
        if isinstance(own, Mapping) and own.get("kind") == "image":
            check_graph(own, component.inputs)
        if isinstance(own, Mapping) and own.get("kind") == "audio":
            check_sounds(own, component.inputs)


def _manifest(
    name: str, source: Bundle, profile: Profile, parts: Mapping[str, CompiledComponent]
) -> Manifest:
    first = next(iter(parts.values()))
    facts = {
        "precision": coarsest(*(found.precision for found in parts.values())),
        "components": {part: dict(found.facts) for part, found in parts.items()},
    }
    step = Step("compile", {}, source.id, versions(), 0.0, facts)
    return replace(
        source.manifest,
        name=name,
        created_by=created_by(),
        stage="compiled",
        components={part: found.component for part, found in parts.items()},
        requires=combine_requires(parts),
        target=profile.to_json(),
        workload=None,
        runtime=RuntimeChoice(_carried(source.manifest, first.options)),
        steps=(*source.manifest.steps, step),
        golden=None,
        evidence={"run_on": None},
    )


def _choose_engine(profile: Profile, engine: str | None, source: Bundle) -> Profile:
    """The profile with its engine first; of a quantized bundle the one it was quantized for."""
    own = source.manifest.requires.engine
    quantized = source.manifest.stage == "quantized" and own in profile.engines
    return choose_engine(profile, own if engine is None and quantized else engine)


def _carried(before: Manifest, options: Mapping[str, object]) -> dict[str, object]:
    """A compiler's options, and below them what a quantized bundle has told its engine already.

    How it adds and rounds is part of what was judged; tables of settings are merged.
    """
    if before.stage != "quantized":
        return dict(options)
    return merged_options(before.runtime.options, options)


def _not_here(staged: Bundle, profile: Profile, threads: int | None) -> str | None:
    """Why this machine does not have the target's device; None when it opens the artifact.

    Only what is missing here excuses an artifact: any other refusal of it is a CompileError.
    """
    if not profile.runs_here():
        present = cpu.cpu_features() or frozenset()
        lacking = ", ".join(sorted(set(profile.features) - present))
        return f"this machine is {cpu.arch()}{f' without {lacking}' if lacking else ''}"
    with engine_errors("opening the compiled model"):
        try:
            _open_all(staged, threads)
        except EngineUnavailable as error:
            return error.message
    return None


def _load_ms(staged: Bundle, threads: int | None) -> float:
    with engine_errors("opening the finished bundle"):
        return _open_all(staged, threads)


def _open_all(staged: Bundle, threads: int | None) -> float:
    """Open every component once; the milliseconds that they took."""
    elapsed = 0.0
    for name in staged.manifest.components:
        start = time.perf_counter_ns()
        session = open_session(staged, component=name, threads=threads)
        elapsed += (time.perf_counter_ns() - start) / 1e6
        session.close()
    return elapsed
