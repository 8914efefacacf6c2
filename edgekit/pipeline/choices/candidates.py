"""Candidates of a quantization: recipes written down as bundles, in a folder of their own."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from edgekit.core import cpu
from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.cpu import DOT_PRODUCTS
from edgekit.core.errors import (
    BundleError,
    ConfigError,
    MeasurementError,
    QuantizeError,
    SessionError,
    disk_errors,
)
from edgekit.core.hashing import canonical_json
from edgekit.core.manifest import Golden, Manifest, Requires, RuntimeChoice, Step
from edgekit.core.profiles import Profile
from edgekit.core.tolerance import Tolerance
from edgekit.core.versions import version_key
from edgekit.pipeline.fitting import merged_options
from edgekit.pipeline.progress import Progress
from edgekit.pipeline.provenance import created_by, versions
from edgekit.quantization.emulating import PROCESSOR, emulated_answers, find_emulator
from edgekit.quantization.recipes import Feeds, Prepared, QuantizedComponent, Recipe
from edgekit.runtime import load
from edgekit.runtime.golden import GOLDEN_NAME, bar_for, coarsest, distance, read, write
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.worker import not_finite

# The libraries whose version changes what is written.
_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino", "nncf", "onnx", "numpy")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A recipe as a bundle on disk, and what its quantizer said of it."""

    recipe: Recipe
    bundle: Bundle
    parts: Mapping[str, QuantizedComponent]

    @property
    def bytes(self) -> int:
        """Of the bundle's component and weights files."""
        return self.bundle.bytes()

    @property
    def precision(self) -> str:
        """The row of the tolerance table: of several components the coarsest's."""
        return coarsest(*(part.precision for part in self.parts.values()))


class Workshop:
    """Writes candidates of one bundle; what it wrote last stays until it is told to forget."""

    def __init__(
        self,
        source: Bundle,
        profile: Profile,
        prepared: Mapping[str, Prepared],
        folder: Path,
        *,
        rows: Mapping[str, list[str]],
        options: Mapping[str, object],
        began: float,
        held_to: Literal["data", "tolerance"] = "tolerance",
    ) -> None:
        """``rows`` are row hashes by role, ``options`` the command's: both for the manifest.

        ``held_to`` says what the answers are judged by.
        """
        self.source = source
        self.profile = profile
        self._prepared = prepared
        self.folder = folder
        self._rows = rows
        self._options = options
        self._began = began
        self._held_to = held_to
        #: Why no speed is measured here that is the target's; None where one is.
        self.elsewhere = elsewhere(profile) or untimed_parts(source)
        self._made = 0
        self._awaited: set[bytes] = set()
        self._kept: dict[bytes, Candidate] = {}
        self._without_vnni: Mapping[str, object] | None = None
        stored = source.manifest.golden
        self._golden = None if stored is None else read(source.file(stored.file))

    @property
    def pruned(self) -> bool:
        """Whether the bundle is of a pruned model, which has lost something already."""
        made = self.source.manifest.source
        return made is not None and made.sha256 != made.origin.sha256

    def write(self, recipe: Recipe) -> Candidate:
        """Write a recipe as a bundle, opened and run on this CPU.

        What its processor must have is asked for in `finish` only, so that candidates for another
        processor can be judged here: their kernels differ, the integers do not.

        Raises QuantizeError for a recipe that cannot be written, or whose answers are NaN.
        """
        key = _key(recipe)
        if key in self._kept:
            return self._kept[key]
        self._made += 1
        path = self.folder / f"candidate-{self._made}"
        with BundleWriter(path, error=QuantizeError) as writer:
            parts = {
                name: prepared.write(recipe, writer.directory)
                for name, prepared in self._prepared.items()
            }
            for part in parts.values():
                for name, role in part.files.items():
                    writer.add(name, role)
            others = set(self.source.manifest.components) - set(parts)
            for name in sorted(others):
                for position, file in enumerate(self.source.manifest.components[name].files):
                    role = "weights" if position else "component"
                    writer.copy(self.source.file(file), file, role)
            writer.copy_from(self.source, "processor", "license")
            manifest = self._manifest(recipe, parts)
            manifest = self._run(writer, manifest)
            writer.stage(manifest)
            bundle = writer.commit()
        candidate = Candidate(recipe, bundle, parts)
        if key in self._awaited:
            self._kept[key] = candidate
        return candidate

    def keep(self, recipes: Collection[Recipe]) -> None:
        """Of these recipes what is written stays: they are timed first, and searched from later."""
        self._awaited |= {_key(recipe) for recipe in recipes}

    def golden_inputs(self) -> Feeds:
        """The inputs that every bundle answers. Raises ConfigError for one without any."""
        if self._golden is None or not self._golden.reference:
            raise ConfigError(
                f"{self.source.path} holds no golden answers that a quantized model could be held"
                " to.",
                hint="Pass --data DATA and --reference SOURCE.",
            )
        return self._golden.inputs

    @property
    def golden_rows(self) -> int:
        """How many samples the golden answers are of, by the first axis of their inputs."""
        arrays = [] if self._golden is None else [*self._golden.inputs.values()]
        return max((len(array) for array in arrays if array.ndim), default=0)

    def open(self, bundle: Bundle, *, threads: int | None = None) -> Model:
        """A bundle on this CPU, whatever its device is: what judges answers, not speed."""
        device = None if self.profile.device == "cpu" else "cpu"
        return load(bundle.path, device=device, threads=threads, check="quick")

    def forget(self, candidate: Candidate) -> None:
        """Remove a candidate's files, unless they are kept: a search would fill the disk."""
        if _key(candidate.recipe) in self._kept:
            return
        shutil.rmtree(candidate.bundle.path, ignore_errors=True)

    def finish(
        self, candidate: Candidate, output: Path, *, facts: Mapping[str, object], force: bool
    ) -> Bundle:
        """Copy a candidate to where the user wants it, whole or not at all, with more facts."""
        before = candidate.bundle
        last = before.manifest.steps[-1]
        seconds = round(time.monotonic() - self._began, 3)
        more = {} if self._without_vnni is None else {"without_vnni": self._without_vnni}
        step = replace(last, seconds=seconds, facts={**last.facts, **facts, **more})
        manifest = replace(
            before.manifest,
            name=output.name,
            requires=self._requires(candidate.parts),
            steps=(*before.manifest.steps[:-1], step),
            evidence={"run_on": self._run_on()},
        )
        with BundleWriter(output, force=force, error=QuantizeError) as writer:
            writer.copy_from(before)
            writer.stage(manifest)
            return writer.commit()

    def look_without_vnni(
        self, candidate: Candidate, progress: Progress
    ) -> tuple[str, bool] | None:
        """What becomes of a candidate's answers on an x86 processor without VNNI, in a sentence.

        With it, whether they are those of this machine within the precision's tolerance: what was
        judged here holds there too. QEMU imitates the processor; `finish` then tells it as a fact.
        None where the question does not arise, where QEMU is not installed, or where there are no
        golden inputs.
        """
        integers = any(part.facts.get("integer_kernels") for part in candidate.parts.values())
        stored = candidate.bundle.manifest.golden
        asked = self.profile.engine == "onnxruntime" and self.profile.arch in (None, "x86_64")
        if not (integers and asked) or stored is None:
            return None
        emulator = find_emulator()
        if emulator is None:
            _LOG.info(
                "qemu-x86_64 is not installed: the answers on a CPU without VNNI are not looked at"
            )
            return None
        where = f"On a processor without VNNI ({PROCESSOR}, by QEMU)"
        values = read(candidate.bundle.file(stored.file))
        progress(f"Answering the golden inputs without VNNI ({PROCESSOR}, by QEMU)")
        try:
            found = values.recorded(emulated_answers(candidate.bundle.path, emulator, self.folder))
        except MeasurementError as error:
            return f"{where} the golden inputs were not answered: {error.message}.", True
        far = _beyond(candidate, self.profile.tolerance, found, values.expected)
        rows = [distance(found[name], one) for name, one in values.expected.items()]
        max_abs, cosine = max(row[0] for row in rows), min(row[1] for row in rows)
        numbers = {"max_abs": max_abs, "cosine": cosine} if math.isfinite(max_abs + cosine) else {}
        self._without_vnni = {"processor": PROCESSOR, "passed": far is None, **numbers}
        told = f"{where} the golden answers are off from this machine's by {max_abs:.3g} (cosine"
        rest = "within its tolerance" if far is None else f"beyond its tolerance: {far}"
        return f"{told} {cosine:.5f}), {rest}.", far is None

    def _manifest(self, recipe: Recipe, parts: Mapping[str, QuantizedComponent]) -> Manifest:
        facts: dict[str, object] = {
            "precision": coarsest(*(part.precision for part in parts.values())),
            "recipe": describe(recipe),
            "held_to": self._held_to,
            "components": {
                name: {
                    "quantized_ops": dict(part.quantized_ops),
                    "kept_float": [asdict(kept) for kept in part.kept_float],
                    **part.facts,
                }
                for name, part in parts.items()
            },
        }
        step = Step(
            "quantize", self._options, self.source.id, versions(_LIBRARIES), 0.0, facts, self._rows
        )
        manifest = self.source.manifest
        options: dict[str, object] = {"device": self.profile.device}
        for part in parts.values():
            options = merged_options(options, part.options)
        return replace(
            manifest,
            created_by=created_by(),
            stage="quantized",
            components={
                **manifest.components,
                **{name: part.component for name, part in parts.items()},
            },
            requires=replace(self._requires(parts), arch=None, cpu_features=()),
            target=self.profile.to_json(),
            workload=None,
            runtime=RuntimeChoice(options),
            steps=(*manifest.steps, step),
            golden=None,
            evidence={},
        )

    def _requires(self, parts: Mapping[str, QuantizedComponent]) -> Requires:
        """What all parts need, and what the runtime needs besides an engine."""
        first = next(iter(parts.values())).requires
        oldest = (part.requires.engine_min_version for part in parts.values())
        features = {name for part in parts.values() for name in part.requires.cpu_features}
        others = {
            name
            for name in self.source.manifest.requires.extras
            if name not in ("ort", "cuda", "openvino")
        }
        return replace(
            first,
            engine_min_version=max(filter(None, oldest), key=version_key, default=None),
            cpu_features=tuple(sorted(features)),
            extras=tuple(sorted({*first.extras, *others})),
        )

    def _run_on(self) -> dict[str, object] | None:
        # A processor that has more than the target promises runs the target's bundle all the same.
        if self.profile.device != "cpu" or not self.profile.runs_here():
            return None
        return {"cpu": cpu.cpu_model(), "arch": cpu.arch(), "system": cpu.system()}

    def _run(self, writer: BundleWriter, manifest: Manifest) -> Manifest:
        """Run the golden inputs in the engine that ships; their answers go into the bundle."""
        values = self._golden
        staged = writer.stage(manifest)
        try:
            with self.open(staged) as model:
                if values is None:
                    return manifest
                made = model.run(values.inputs)
        except (SessionError, BundleError) as error:
            raise QuantizeError(
                f"{self.profile.engine} does not run the quantized model: {error.message}",
                hint="Try another --method.",
            ) from error
        answers = values.recorded(made)
        wrong = not_finite({name: made[name] for name in answers})
        if wrong is not None:
            raise QuantizeError(
                f"The quantized model answers the golden inputs with NaN or infinity in {wrong}.",
                hint="Try another --method, or keep the operators at fault with --exclude.",
            )
        with disk_errors(QuantizeError, f"writing the golden answers of {writer.output}"):
            write(
                writer.add(GOLDEN_NAME, "golden"), values.inputs, values.reference, answers,
                strides=values.strides,
            )  # fmt: skip
        return replace(manifest, golden=Golden(GOLDEN_NAME, self.profile.tolerance))


def untimed_parts(source: Bundle) -> str | None:
    """Why a bundle is not timed where nobody asks for its speed; None where it is."""
    parts = source.manifest.components
    if source.manifest.generation is None or set(parts) == {"model"}:
        return None
    return f"quantize and build time bundles of one component; this has {' and '.join(parts)}"


def elsewhere(profile: Profile) -> str | None:
    """Why what is timed here says nothing of the target, None where it does."""
    if profile.device != "cpu":
        return f"this is no {profile.device}"
    present = cpu.cpu_features() or frozenset()
    if not profile.runs_here():
        lacking = ", ".join(sorted(set(profile.features) - present))
        return f"this machine is {cpu.arch()}{f' without {lacking}' if lacking else ''}"
    more = ", ".join(sorted(present & DOT_PRODUCTS - set(profile.features)))
    if more and DOT_PRODUCTS.isdisjoint(profile.features):
        return f"this processor has {more}, which the target does not promise"
    return None


def _key(recipe: Recipe) -> bytes:
    return canonical_json(asdict(recipe))


def describe(recipe: Recipe) -> dict[str, object]:
    """The recipe as JSON, without what is as by default."""
    standard = Recipe(recipe.scheme)
    told = {key: value for key, value in asdict(recipe).items() if value != getattr(standard, key)}
    return {"scheme": recipe.scheme, **told}


def beyond_tolerance(candidate: Candidate, overrides: Mapping[str, Tolerance]) -> str | None:
    """Why a candidate's golden answers are too far from PyTorch's; None where they are not.

    It is all that can be said of a candidate without DATA.
    """
    stored = candidate.bundle.manifest.golden
    if stored is None:
        return None
    values = read(candidate.bundle.file(stored.file))
    return _beyond(candidate, overrides, values.expected, values.reference)


def _beyond(
    candidate: Candidate,
    overrides: Mapping[str, Tolerance],
    answers: Mapping[str, Array],
    reference: Mapping[str, Array],
) -> str | None:
    """Why answers are too far from others for a candidate's precision; None if they are not."""
    bar = bar_for(candidate.bundle.manifest.components, candidate.precision, overrides)
    for name, wanted in reference.items():
        answer = answers.get(name)
        if answer is None or answer.shape != wanted.shape:
            return f"{name} is not answered in the shape of the original's answer"
        found = bar.compare(name, answer, wanted)
        if not found.passed:
            return (
                f"{name} is off by {found.max_abs:.3g} (cosine {found.cosine:.5f}) on the golden"
                f" inputs, allowed for {bar.precision}: {found.allowed}"
            )
    return None
