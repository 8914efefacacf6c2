"""compile: a bundle becomes what a target's engine loads fastest, run in it where it is here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.compilers import Choice, CompiledComponent, Compiler, find_compiler
from edgekit.compilers.golden import FittedGolden, compare, fit_golden
from edgekit.compilers.records import combine_requires
from edgekit.compilers.tuning import tune
from edgekit.core import cpu
from edgekit.core.bundle import Bundle, BundleWriter, check_output, open_bundle
from edgekit.core.errors import (
    BundleError,
    CompileError,
    EdgekitError,
    EngineUnavailable,
    MissingDependency,
    SessionError,
    disk_errors,
)
from edgekit.core.manifest import Golden, Manifest, RuntimeChoice, Step
from edgekit.core.profiles import Profile, load_profile
from edgekit.core.results import CompileResult
from edgekit.pipeline.fitting import (
    check_size,
    choose_engine,
    feeds_at,
    merged_options,
    threads_note,
    workload_for,
)
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import created_by, versions
from edgekit.runtime.engines import find_engine
from edgekit.runtime.golden import (
    GOLDEN_NAME,
    GoldenValues,
    bar_for,
    coarsest,
    effective_precision,
    read,
    write,
)
from edgekit.runtime.joined import JoinedSession, of_part
from edgekit.runtime.opening import open_session, open_sessions
from edgekit.runtime.pictures.predicting import check_graph
from edgekit.runtime.session import Array, Session
from edgekit.runtime.sound.reader import check_graph as check_sounds

# In the step's facts: nothing could say whether the answers are right.
NOTHING = "none"


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
        with _engine_errors("fitting the processor to the compiled graph"):
            _check_media(manifest)
        job = _Job(writer, source, golden, profile, compiler, parts, progress)
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


@dataclass(frozen=True)
class _Job:
    """What the two ways to finish a compilation share."""

    writer: BundleWriter
    source: Bundle
    golden: GoldenValues | None
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
            workload = workload_for(self.profile, staged, batch, length)
            with _engine_errors("measuring the session options"):
                choice = self._tune(staged, workload, count, seed)
            runtime = RuntimeChoice(choice.options, choice.chosen_by)
            manifest = replace(manifest, runtime=runtime, workload=workload)
        self.progress(f"Comparing with the golden answers on {self.profile.engine}")
        staged = self.writer.stage(manifest)
        with (
            _engine_errors("running the compiled model"),
            closing(open_sessions(staged, threads=threads)) as session,
        ):
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
            with closing(self._on_cpu(manifest)) as session:
                manifest = self._golden(manifest, session)
            facts["compared_on_cpu"] = "yes"
        except (SessionError, BundleError) as error:
            # Not a failure: some operators have a kernel for the device only.
            facts["compared_on_cpu"] = f"no: {error}"
            facts |= {"compared": NOTHING, "compared_reason": "this CPU does not run it"}
        return replace(_with_facts(manifest, facts), evidence={"run_on": None})

    def _on_cpu(self, manifest: Manifest) -> Session:
        """The artifact on this CPU, without what the manifest asks of the target's machine."""
        engine = find_engine(self.profile.engine)
        opened: dict[str, Session] = {}
        try:
            for name, part in manifest.components.items():
                opened[name] = engine.open_session(
                    self.writer.directory,
                    part,
                    options=engine.EXACT_OPTIONS,
                    device="cpu",
                    threads=None,
                )
        except BaseException:
            for session in opened.values():
                session.close()
            raise
        return opened["model"] if set(opened) == {"model"} else JoinedSession(opened)

    def _fitted(self, values: GoldenValues) -> FittedGolden:
        """The golden values in the shapes that were fixed; of towers with their names in front."""
        before = self.source.manifest
        if set(self.parts) == {"model"}:
            return fit_golden(
                before.components["model"],
                self.parts["model"].component,
                values.inputs,
                values.reference,
                processor=before.processor,
            )
        joined = FittedGolden({}, {}, {})
        for name, part in self.parts.items():
            own = (before.processor or {}).get(name)
            found = fit_golden(
                before.components[name],
                part.component,
                of_part(values.inputs, name),
                of_part(values.reference, name),
                processor=own if isinstance(own, Mapping) else None,
            )
            for key in ("inputs", "reference", "comparable"):
                arrays: Mapping[str, Array] = getattr(found, key)
                getattr(joined, key).update(
                    {f"{name}.{tensor}": array for tensor, array in arrays.items()}
                )
        return joined

    def _tune(self, staged: Bundle, workload: Mapping[str, int], threads: int, seed: int) -> Choice:
        options = staged.manifest.runtime.options
        candidates = self.compiler.candidates(self.profile, options, threads)
        component = staged.manifest.components["model"]
        feeds = feeds_at(
            staged, workload,
            # Inputs that the model is known to take: made-up ones may have sizes that it does not.
            known=None if self.golden is None else self._fitted(self.golden).inputs,
        )  # fmt: skip
        return tune(
            staged.path,
            component,
            feeds,
            candidates,
            engine=self.profile.engine,
            device=self.profile.device,
            threads=threads,
            workload=workload,
            seed=seed,
        )

    def _golden(self, manifest: Manifest, session: Session) -> Manifest:
        """Record what this artifact answers, refused when it left the tolerance of PyTorch.

        What PyTorch's golden answers say nothing of any more is compared with the source bundle.
        """
        values = self.golden
        if values is None:
            reason = "the bundle has no golden values"
            return _with_facts(manifest, {"compared": NOTHING, "compared_reason": reason})
        fitted = self._fitted(values)
        answers = values.recorded(session.run(fitted.inputs))
        precision = effective_precision(manifest, session)
        bar = bar_for(manifest.components, precision, self.profile.tolerance)
        # What was judged on data may be far from PyTorch's answer to made-up inputs.
        comparable = {} if self.source.manifest.judged_on_data else fitted.comparable
        known = self.source.manifest.source
        imported = known is not None and known.kind == "onnx"
        whose = "the imported model" if imported else "PyTorch"
        for name, wanted in comparable.items():
            compare(name, answers[name], wanted, bar, whose)
        with_whom = [whose] if comparable else []
        facts: dict[str, object] = {}
        left = [name for name in answers if name not in comparable]
        own = self._source_answers(fitted.inputs, whose) if left else {}
        if isinstance(own, str):
            facts["compared_reason"] = own
        elif left:
            own = values.recorded(own)
            for name in left:
                compare(name, answers[name], own[name], bar, "the bundle it is made of")
            with_whom.append("source bundle")
        facts["compared"] = ", ".join(with_whom) or NOTHING
        with disk_errors(CompileError, f"writing the golden answers of {self.writer.output}"):
            path = self.writer.add(GOLDEN_NAME, "golden")
            write(path, fitted.inputs, fitted.reference, answers, strides=values.strides)
        golden = Golden(GOLDEN_NAME, self.profile.tolerance)
        return replace(_with_facts(manifest, facts), golden=golden)

    def _source_answers(self, inputs: Mapping[str, Array], whose: str) -> dict[str, Array] | str:
        """What the bundle that is compiled answers itself, or why it cannot be asked here."""
        try:
            with closing(open_sessions(self.source)) as session:
                return session.run(inputs)
        except (SessionError, BundleError, MissingDependency) as error:
            return (
                f"The answers of {whose} do not belong to these shapes, and the bundle it is made"
                f" of does not run here ({error.message.rstrip('.')})"
            )


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


@contextmanager
def _engine_errors(doing: str) -> Iterator[None]:
    """Turn what the engine says of an artifact that was just made for it into CompileError."""
    try:
        yield
    except EdgekitError as error:
        if not isinstance(error, (SessionError, BundleError)):
            raise
        raise CompileError(f"Failed while {doing}: {error.message}", hint=error.hint) from error
    except Exception as error:  # an engine's own exceptions share no base
        raise CompileError(
            f"The engine failed while {doing}: {type(error).__name__}: {error}",
            hint="Compile for another engine with --engine, or another target.",
        ) from error


def _with_facts(manifest: Manifest, facts: Mapping[str, object]) -> Manifest:
    """The manifest with more facts in its last step."""
    last = manifest.steps[-1]
    step = replace(last, facts={**last.facts, **facts})
    return replace(manifest, steps=(*manifest.steps[:-1], step))


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
    with _engine_errors("opening the compiled model"):
        try:
            _open_all(staged, threads)
        except EngineUnavailable as error:
            return error.message
    return None


def _load_ms(staged: Bundle, threads: int | None) -> float:
    with _engine_errors("opening the finished bundle"):
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
