"""A model that was just compiled: its options are chosen, and it is compared, where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from edgekit.compilers import Choice, CompiledComponent, Compiler
from edgekit.compilers.golden import FittedGolden, compare, fit_golden
from edgekit.compilers.tuning import tune
from edgekit.core import cpu
from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.errors import (
    BundleError,
    CompileError,
    EdgekitError,
    MissingDependency,
    SessionError,
    disk_errors,
)
from edgekit.core.manifest import Golden, Manifest, RuntimeChoice
from edgekit.core.profiles import Profile
from edgekit.pipeline.fitting import feeds_at, workload_for
from edgekit.pipeline.progress import Progress
from edgekit.runtime.engines import find_engine
from edgekit.runtime.golden import GOLDEN_NAME, GoldenValues, bar_for, effective_precision, write
from edgekit.runtime.joined import JoinedSession, of_part
from edgekit.runtime.opening import open_sessions
from edgekit.runtime.session import Array, Session

# In the step's facts: nothing could say whether the answers are right.
NOTHING = "none"


@dataclass(frozen=True)
class Compilation:
    """A bundle whose files are compiled; it is finished here, or built for elsewhere."""

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
            with engine_errors("measuring the session options"):
                choice = self._tune(staged, workload, count, seed)
            runtime = RuntimeChoice(choice.options, choice.chosen_by)
            manifest = replace(manifest, runtime=runtime, workload=workload)
        self.progress(f"Comparing with the golden answers on {self.profile.engine}")
        staged = self.writer.stage(manifest)
        with (
            engine_errors("running the compiled model"),
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


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
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
