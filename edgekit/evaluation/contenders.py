"""Who takes part in a bench: bundles, bare graphs and the PyTorch original, as child commands."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.core.onnx_file import names_onnx
from edgekit.evaluation.imported_child import imported_command
from edgekit.evaluation.measuring import Measuring
from edgekit.evaluation.natural import data_requests, data_workloads
from edgekit.evaluation.reference import Mode, declared_inputs, source_task
from edgekit.evaluation.rounds import Entrant
from edgekit.runtime.contenders import worker_command
from edgekit.runtime.conversation import child_environment, python_command
from edgekit.runtime.generation.requests import (
    check_new_tokens,
    generates,
    mode_of,
    request_workloads,
)
from edgekit.runtime.raw import is_raw, raw_bytes, raw_inputs, raw_workloads
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import (
    Workload,
    input_specs,
    save_workloads,
    sweep_workloads,
)
from edgekit.sources.imported_file import find_imported

REFERENCE = "pytorch"
IMPORTED = "imported"
REFERENCE_NAMES: Mapping[Mode, str] = {
    "eager": REFERENCE,
    "imported": IMPORTED,
    "compile": f"{REFERENCE} compile",
    "bfloat16": f"{REFERENCE} bfloat16",
}


@dataclass(frozen=True)
class Artifact:
    """Something on disk that is measured; ``bundle`` is None for a bare graph."""

    name: str
    path: Path
    inputs: tuple[TensorSpec, ...]
    bytes: int
    bundle: Bundle | None = None


@dataclass(frozen=True)
class ReferenceSource:
    """What opens the reference in a child process; see `edgekit.sources.opening.open_source`."""

    spec: str
    task: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    inputs: tuple[str, ...] = ()

    @property
    def mode(self) -> Mode:
        """What it is run by: PyTorch eager, or for an ONNX model the engine that it is for."""
        return "imported" if names_onnx(self.spec) else "eager"

    def command(self, inputs: Path, threads: int, *, mode: Mode = "eager") -> tuple[str, ...]:
        """The command of one measuring process."""
        words = [self.spec, "--worker", str(inputs), "--threads", str(threads), "--mode", mode]
        words += ["--task", self.task] if self.task else []
        words += ["--revision", self.revision] if self.revision else []
        words += ["--trust-remote-code"] if self.trust_remote_code else []
        for declaration in self.inputs:
            words += ["--input", declaration]
        return python_command("edgekit.evaluation.reference_child", *words)

    def of(self, bundle: Bundle) -> ReferenceSource:
        """The source opened for a bundle's task and, where none are declared, with its inputs."""
        manifest = bundle.manifest
        return ReferenceSource(
            self.spec,
            task=self.task or source_task(manifest),
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            inputs=self.inputs or declared_inputs(manifest),
        )


def open_artifacts(paths: Sequence[Path | str]) -> list[Artifact]:
    """What lies at the paths, checked.

    Raises ConfigError, BundleError, or what an engine says of a graph that it does not open.
    """
    if not paths:
        raise ConfigError("bench needs at least one bundle.")
    places = [Path(path) for path in paths]
    return [_open(name, path) for name, path in zip(contender_names(places), places, strict=True)]


def _open(name: str, path: Path) -> Artifact:
    if is_raw(path):
        return Artifact(name, path, raw_inputs(path), raw_bytes(path))
    bundle = open_bundle(path)
    known = set(bundle.manifest.components) in ({"model"}, {"image", "text"})
    inputs = input_specs(bundle) if known else ()
    return Artifact(name, path, inputs, bundle.bytes(), bundle)


def contender_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each: its folder's or file's, the whole path where two share a name."""
    short = [path.resolve().name for path in paths]
    reserved = REFERENCE_NAMES.values()
    names: list[str] = []
    for path, name in zip(paths, short, strict=True):
        alone = short.count(name) == 1 and name not in reserved
        names.append(free_name(name if alone else str(path), [*reserved, *names]))
    return names


def free_name(wanted: str, taken: Collection[str]) -> str:
    """The name, with a number behind it when it is `taken`: what everybody in a bench is called."""
    if wanted not in taken:
        return wanted
    numbered = (f"{wanted} #{number}" for number in itertools.count(2))
    return next(name for name in numbered if name not in taken)


def plan_workloads(artifacts: Sequence[Artifact], measuring: Measuring) -> tuple[Workload, ...]:
    """Every batch with every length, made by the first bundle, or for the graph where none is.

    Raises ConfigError for a batch or length that the first contender does not take.
    """
    first = next((one.bundle for one in artifacts if one.bundle is not None), None)
    if first is not None and generates(first.manifest):
        return _kept(plan_requests(artifacts, first, measuring), measuring)
    if first is None and measuring.new_tokens is not None:
        raise ConfigError(
            "--max-new-tokens needs bundles that generate, and there are bare graphs only.",
            hint="Leave --max-new-tokens out.",
        )
    if first is not None:
        check_new_tokens(first, measuring.new_tokens)
    lengths = measuring.token_lengths
    made: list[Workload] = []
    if lengths is None or lengths:
        if first is not None:
            made += sweep_workloads(
                first, batches=measuring.batches, lengths=lengths, seed=measuring.seed
            )
        else:
            for batch in dict.fromkeys(measuring.batches):
                made += raw_workloads(
                    artifacts[0].inputs, batch=batch, lengths=lengths, seed=measuring.seed
                )
    if measuring.data is not None:
        if first is None:
            raise ConfigError(
                "--data needs a bundle that reads it, and there are bare graphs only.",
                hint="Give the bundle beside them.",
            )
        made += data_workloads(first, measuring)
    return _kept(made, measuring)


def plan_requests(
    artifacts: Sequence[Artifact], first: Bundle, measuring: Measuring
) -> list[Workload]:
    """Requests for models that generate, made by the first of them.

    Raises ConfigError for contenders that do not generate, or from other inputs, and for lengths
    that the first one does not take.
    """
    mode = mode_of(first.manifest)
    for artifact in artifacts:
        bundle = artifact.bundle
        if bundle is None or not generates(bundle.manifest) or mode_of(bundle.manifest) != mode:
            raise ConfigError(
                f"{first.path} is asked for whole answers, and {artifact.path} gives none of that"
                " kind: they cannot be asked for the same.",
                hint="Compare bundles of one model that generates.",
            )
    made: list[Workload] = []
    lengths = measuring.token_lengths
    if lengths is None or lengths:
        made += request_workloads(
            first,
            batches=measuring.batches,
            lengths=lengths,
            new_tokens=measuring.new_tokens,
            seed=measuring.seed,
        )
    if measuring.data is not None:
        made += data_requests(first, measuring)
    return made


def _kept(made: Sequence[Workload], measuring: Measuring) -> tuple[Workload, ...]:
    """Those of the pairs of a batch and a length that are asked for."""
    only = measuring.only
    return tuple(one for one in made if only is None or (one.batch, one.length) in only)


def write_inputs(
    artifact: Artifact, workloads: Sequence[Workload], first: Sequence[TensorSpec], path: Path
) -> None:
    """Save the workloads in the types that a contender takes, for all its processes.

    Raises ConfigError when it takes other inputs than the `first` contender.
    """
    save_workloads([_fitted(artifact, first, workload) for workload in workloads], path)


def artifact_entrant(
    artifact: Artifact,
    name: str,
    inputs: Path,
    threads: int,
    options: Mapping[str, object] | None = None,
    *,
    own_threads: bool = False,
) -> Entrant:
    """A contender on disk as processes that measure it; `options` stand over its own.

    With `own_threads` a bundle has fewer where compiling has found them to be faster.
    """
    command = worker_command(artifact.path, inputs, threads, options, own_threads=own_threads)
    return Entrant(name, command, child_environment())


def _fitted(artifact: Artifact, first: Sequence[TensorSpec], workload: Workload) -> Workload:
    """The workload with the integer and float widths that this contender takes."""
    if workload.new_tokens is not None:
        # What the loop gives to a graph it gives in the types of its inputs.
        return workload
    specs = artifact.inputs
    if {spec.name for spec in specs} != {spec.name for spec in first}:
        raise ConfigError(
            f"{artifact.path} takes {', '.join(map(str, specs)) or 'several components'}; the"
            f" first contender takes {', '.join(map(str, first))}: they cannot run on the same"
            " inputs.",
            hint="Compare bundles of one model.",
        )

    def cast(feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {
            spec.name: feeds[spec.name].astype(np.dtype(spec.dtype), copy=False) for spec in specs
        }

    return workload.fed(cast)


def reference_entrants(
    source: ReferenceSource,
    modes: Sequence[Mode],
    workloads: Sequence[Workload],
    folder: Path,
    threads: int,
) -> list[Entrant]:
    """The original in PyTorch, once for every mode; an imported model on ONNX Runtime.

    Raises ConfigError or SourceError for an ONNX file that no engine may be given.
    """
    path = folder / "reference.safetensors"
    save_workloads(workloads, path)
    if source.mode == "imported":
        found = find_imported(source.spec)
        known = {
            "sha256": found.sha256, "precision": found.precision, "parameter_bytes": found.bytes,
        }  # fmt: skip
        command = imported_command(found.path, path, threads, known)
        return [Entrant(IMPORTED, command, child_environment())]
    # Waiting OpenMP threads that spin starve the ones that work when a core is taken.
    environment = child_environment(
        OMP_WAIT_POLICY="PASSIVE",
        OMP_NUM_THREADS=str(threads),
        TOKENIZERS_PARALLELISM="false",
        # What torch.compile makes is shared by the processes of this run and leaves with it.
        TORCHINDUCTOR_CACHE_DIR=str(folder / "inductor"),
        TORCHINDUCTOR_COMPILE_THREADS="1",
        # Else the number of threads at the time of compiling would be built in.
        TORCHINDUCTOR_CPP_DYNAMIC_THREADS="1",
    )
    return [
        Entrant(REFERENCE_NAMES[mode], source.command(path, threads, mode=mode), environment)
        for mode in modes
    ]
