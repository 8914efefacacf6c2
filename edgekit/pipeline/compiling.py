"""compile: a bundle becomes what a target's engine loads fastest, run in it where it is here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.compilers import Choice, CompiledComponent, Compiler, find_compiler
from edgekit.compilers.golden import fit_golden
from edgekit.compilers.records import combine_requires
from edgekit.compilers.tuning import tune
from edgekit.core import cpu
from edgekit.core.bundle import Bundle, BundleWriter, check_output, open_bundle
from edgekit.core.errors import (
    BundleError,
    CompileError,
    ConfigError,
    SessionError,
    disk_errors,
)
from edgekit.core.manifest import Golden, Manifest, RuntimeChoice, Step
from edgekit.core.profiles import Profile, load_profile, nearest
from edgekit.core.results import CompileResult
from edgekit.core.tolerance import tolerance_for
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import created_by, versions
from edgekit.runtime.engines import find_engine
from edgekit.runtime.golden import GOLDEN_NAME, distance, effective_precision, read, write
from edgekit.runtime.opening import open_session
from edgekit.runtime.session import Session
from edgekit.runtime.workloads import fit_workload, make_workloads

_DEFAULT_WORKLOAD = {"batch": 1, "length": 128}


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
    """
    started = time.monotonic()
    check_output(Path(output), force=force)
    source = open_bundle(bundle)
    profile = _choose_engine(load_profile(target, overrides=overrides), engine)
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
        for entry in source.manifest.files:
            if entry.role in ("processor", "license"):
                writer.copy(source.file(entry.path), entry.path, entry.role)
        manifest = _manifest(Path(output).name, source, profile, parts)
        job = _Job(writer, source, profile, compiler, parts, progress)
        opened = _open_here(writer.stage(manifest), profile, threads)
        if isinstance(opened, str):
            manifest = job.build_only(manifest, opened)
        else:
            opened.close()
            manifest = job.run_here(manifest, batch, length, threads, seed)
        step = replace(manifest.steps[-1], seconds=round(time.monotonic() - started, 3))
        step = replace(step, options={"target": target, "engine": engine, "static": sizes,
                                      "set": list(overrides), "seed": seed})  # fmt: skip
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
    for part in parts.values():
        for note in part.notes:
            progress(note)
    return result


@dataclass(frozen=True)
class _Job:
    """What the two ways to finish a compilation share."""

    writer: BundleWriter
    source: Bundle
    profile: Profile
    compiler: Compiler
    parts: Mapping[str, CompiledComponent]
    progress: Progress

    def run_here(
        self,
        manifest: Manifest,
        batch: int | None,
        length: int | None,
        threads: int | None,
        seed: int,
    ) -> Manifest:
        """Choose the options by measuring, then compare with PyTorch in the engine that ships."""
        staged = self.writer.stage(manifest)
        count = threads or self.profile.threads or cpu.available_threads()
        if set(self.parts) == {"model"}:
            self.progress("Choosing session options by measuring them")
            workload = _workload(self.profile, staged, batch, length)
            choice = self._tune(staged, workload, count, seed)
            runtime = RuntimeChoice(choice.options, choice.chosen_by)
            manifest = replace(manifest, runtime=runtime, workload=workload)
        self.progress(f"Comparing with the golden answers on {self.profile.engine}")
        staged = self.writer.stage(manifest)
        with closing(open_session(staged, threads=threads)) as session:
            facts = {key: value for key, value in session.facts().items() if key != "threads"}
            manifest = self._golden(manifest, session)
        run_on: dict[str, object] = {
            "cpu": cpu.cpu_model(),
            "arch": cpu.arch(),
            "system": cpu.system(),
            **facts,
        }
        return replace(manifest, evidence={"run_on": run_on})

    def build_only(self, manifest: Manifest, reason: str) -> Manifest:
        """Check the structure, and the answers on this CPU where its kernels reach."""
        self.progress(f"Not run on the target: {reason}")
        facts: dict[str, object] = {"not_run": reason}
        for name, part in self.parts.items():
            facts[name] = dict(self.compiler.check_artifact(self.writer.directory, part.component))
        try:
            engine = find_engine(self.profile.engine)
            session = engine.open_session(
                self.writer.directory,
                manifest.components["model"],
                options=engine.EXACT_OPTIONS,
                device="cpu",
                threads=None,
            )
        except (SessionError, BundleError, KeyError) as error:
            facts["compared_on_cpu"] = f"no: {error}"
        else:
            with closing(session):
                manifest = self._golden(manifest, session)
            facts["compared_on_cpu"] = "yes"
        last = manifest.steps[-1]
        step = replace(last, facts={**last.facts, **facts})
        return replace(manifest, steps=(*manifest.steps[:-1], step), evidence={"run_on": None})

    def _tune(self, staged: Bundle, workload: Mapping[str, int], threads: int, seed: int) -> Choice:
        options = staged.manifest.runtime.options
        candidates = self.compiler.candidates(self.profile, options, threads)
        component = staged.manifest.components["model"]
        length = workload.get("length")
        feeds = make_workloads(
            staged, batch=workload["batch"], lengths=None if length is None else [length]
        )
        return tune(
            staged.path,
            component,
            feeds[0].feeds,
            candidates,
            engine=self.profile.engine,
            device=self.profile.device,
            threads=threads,
            workload=workload,
            seed=seed,
        )

    def _golden(self, manifest: Manifest, session: Session) -> Manifest:
        """Record what this artifact answers, refused when it left the tolerance of PyTorch."""
        known = self.source.manifest.golden
        if known is None or set(self.parts) != {"model"}:
            return manifest
        values = read(self.source.file(known.file))
        before = self.source.manifest.components["model"]
        after = self.parts["model"].component
        processor = self.source.manifest.processor
        inputs, reference = fit_golden(
            before, after, values.inputs, values.reference, processor=processor
        )
        answers = session.run(inputs)
        precision = effective_precision(manifest, session)
        rule = tolerance_for(precision, self.profile.tolerance)
        for name, wanted in reference.items():
            max_abs, cosine = distance(answers[name], wanted)
            scale = float(abs(wanted).max()) if wanted.size else 0.0
            if not rule.accepts(max_abs=max_abs, max_reference=scale, cosine=cosine):
                raise CompileError(
                    f"The compiled model answers differently from PyTorch: {name} is off by"
                    f" {max_abs:.3g} (cosine {cosine:.6f}), allowed for {precision}:"
                    f" {rule.describe()}.",
                    hint="Choose a more exact precision with --set, or another engine.",
                )
        with disk_errors(CompileError, f"writing the golden answers of {self.writer.output}"):
            path = self.writer.add(GOLDEN_NAME, "golden")
            write(path, inputs, reference, answers)
        return replace(manifest, golden=Golden(GOLDEN_NAME, self.profile.tolerance))


def _choose_engine(profile: Profile, engine: str | None) -> Profile:
    """The profile with the wanted engine first. ConfigError when the target does not run it."""
    if engine is None:
        return profile
    if engine not in profile.engines:
        raise ConfigError(
            f"The target {profile.name} does not run the engine {engine!r}.",
            hint=nearest(engine, profile.engines),
        )
    others = tuple(name for name in profile.engines if name != engine)
    return replace(profile, engines=(engine, *others))


def _workload(
    profile: Profile, staged: Bundle, batch: int | None, length: int | None
) -> dict[str, int]:
    """The options' workload; the target's, as far as the model takes it, where they say nothing."""
    wanted = {**_DEFAULT_WORKLOAD, **profile.workload}
    rows, tokens = fit_workload(staged, wanted["batch"], wanted["length"])
    workload = {"batch": rows if batch is None else batch}
    tokens = tokens if length is None else length
    return workload if tokens is None else {**workload, "length": tokens}


def _manifest(
    name: str, source: Bundle, profile: Profile, parts: Mapping[str, CompiledComponent]
) -> Manifest:
    first = next(iter(parts.values()))
    facts = {
        "precision": first.precision,
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
        runtime=RuntimeChoice(first.options),
        steps=(*source.manifest.steps, step),
        golden=None,
        evidence={"run_on": None},
    )


def _open_here(staged: Bundle, profile: Profile, threads: int | None) -> Session | str:
    """A session on the target's own device, or why this machine has none."""
    if not profile.runs_here():
        present = cpu.cpu_features() or frozenset()
        lacking = ", ".join(sorted(set(profile.features) - present))
        return f"this machine is {cpu.arch()}{f' without {lacking}' if lacking else ''}"
    try:
        return open_session(staged, threads=threads)
    except SessionError as error:
        return error.message


def _load_ms(staged: Bundle, threads: int | None) -> float:
    start = time.perf_counter_ns()
    session = open_session(staged, threads=threads)
    elapsed = (time.perf_counter_ns() - start) / 1e6
    session.close()
    return elapsed
