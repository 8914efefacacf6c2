"""import: an existing ONNX model becomes a bundle, whose reference is that model itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.bundle import BundleWriter, check_output
from edgekit.core.errors import ConfigError, SourceError
from edgekit.core.lazy import require_installed
from edgekit.core.manifest import TASKS, Golden, Manifest, Origin, Requires, Source, Step
from edgekit.core.onnx_file import check_onnx, model_files, model_hash
from edgekit.core.results import ExportResult
from edgekit.pipeline.exporting import EXTRAS, save_golden
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import created_by, versions
from edgekit.runtime.arrays import read_arrays
from edgekit.runtime.golden import GOLDEN_NAME
from edgekit.runtime.timing import peak_bytes

if TYPE_CHECKING:
    from edgekit.exporters.declared import Declared
    from edgekit.exporters.imported import Imported

# The libraries that decide what an import writes.
_LIBRARIES = ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy")


def import_onnx(
    model: Path | str,
    output: Path | str,
    *,
    task: str | None = None,
    processor: Path | str | None = None,
    inputs: Sequence[str] = (),
    samples: Path | str | None = None,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> ExportResult:
    """Make a bundle of an existing ONNX model at `output`.

    The file goes into the bundle as it is, with its external data. It is run on inputs of its
    declared shapes, at several sizes of what varies: what it answers, as it was written and without
    ONNX Runtime's optimisations, is the reference of all that is made of it.

    Args:
        task: ``custom`` (tensors in, tensors out) unless `processor` says another.
        processor: a JSON or TOML file in the manifest's vocabulary: how pictures are prepared,
            what the outputs mean, and the labels.
        inputs: ``NAME=DTYPE:DIM,DIM…`` for inputs whose axes the graph leaves open: names for
            those that vary, numbers for those that do not.
        samples: an .npz of one array per input: a real call's inputs, for golden answers.
        seed: of the inputs that are made up without `samples`.

    Raises:
        ConfigError: wrong options, no such file, an output that must not be written.
        SourceError: it is no whole ONNX model, or one that no bundle can hold: custom operators,
            external data outside of its folder, an interface that is not made of tensors.
        EngineUnavailable: its opset or IR version is newer than ONNX Runtime reads.
    """
    started = time.monotonic()
    path = Path(model).expanduser()
    check_output(Path(output), force=force)
    read = {"model": path, "samples": samples, "processor": processor}
    _refuse_own_sources(Path(output), {what: Path(file) for what, file in read.items() if file})
    require_installed(("onnx",), "build")
    require_installed(("onnxruntime",), "ort")
    from edgekit.exporters.declared import read_declared
    from edgekit.exporters.imported import import_model
    from edgekit.sources.inputs import parse_inputs

    declared = None if processor is None else read_declared(Path(processor))
    chosen = _task(task, declared, processor)
    specs = parse_inputs(inputs)
    given = None if samples is None else read_arrays(Path(samples))
    check_onnx(path)
    with BundleWriter(output, force=force, error=SourceError) as writer:
        progress(f"Reading {path.name}, and running it on ONNX Runtime")
        found = import_model(
            path, writer.directory, declared=specs, samples=given, processor=declared, seed=seed
        )
        for name, role in found.exported.files:
            writer.add(name, role)
        for license in license_files(path, *(Path(file) for file in (samples, processor) if file)):
            writer.copy(license, license.name, "license")
        options = {
            "task": task, "inputs": list(inputs), "seed": seed,
            "processor": None if processor is None else Path(processor).name,
            "samples": None if samples is None else Path(samples).name,
        }  # fmt: skip
        manifest = _manifest(writer.output.name, path, chosen, found, options)
        progress("Saving golden answers")
        save_golden(writer, manifest, found.exported)
        seconds = time.monotonic() - started
        step = replace(manifest.steps[0], seconds=round(seconds, 3))
        staged = writer.stage(replace(manifest, steps=(step,)))
        result = ExportResult(
            output=Path(output),
            bundle_id=staged.id,
            task=manifest.task,
            architecture=found.model.name,
            opset=found.exported.opset,
            inputs=found.exported.inputs,
            outputs=found.exported.outputs,
            parity=found.exported.parity,
            bytes=staged.bytes(),
            seconds=seconds,
            peak_rss_bytes=peak_bytes(),
        )
        writer.commit()
    for note in found.exported.notes:
        progress(note)
    return result


def _task(task: str | None, declared: Declared | None, processor: Path | str | None) -> str:
    """The bundle's task. Raises ConfigError for one that nothing prepares inputs for."""
    if task is not None and task not in TASKS:
        from edgekit.core.profiles import nearest

        raise ConfigError(f"There is no task {task!r}.", hint=nearest(task, TASKS))
    if declared is None:
        if task in (None, "custom"):
            return "custom"
        raise ConfigError(
            f"--task {task} needs a processor: an ONNX file does not say how its inputs are"
            " prepared, or what its outputs mean.",
            hint="Pass --processor FILE (pictures), or leave --task away: tensors in, tensors out."
            " Models of texts are exported from their PyTorch folder, with the tokenizer.",
        )
    if task is not None and task != declared.task:
        raise ConfigError(
            f"--task is {task}, and the processor {processor} is for {declared.task}.",
            hint="Leave --task away: the processor says what the outputs are.",
        )
    return declared.task


def license_files(model: Path, *others: Path) -> list[Path]:
    """The texts of licences that come along with a model: none of its own files, or of `others`."""
    from edgekit.sources.loaded import license_files_in

    own = {file.resolve() for file in (model, *others, *model_files(model).values())}
    return [
        path
        for path in license_files_in(model.parent)
        if not path.is_symlink() and path.resolve() not in own
    ]


def _refuse_own_sources(output: Path, sources: Mapping[str, Path]) -> None:
    """Raise ConfigError where --force would remove what is read."""
    if not output.exists():
        return
    for what, file in sources.items():
        # Both where a link lies and where it leads.
        folders = {*file.absolute().parents, *file.resolve().parents}
        if any(folder.exists() and folder.samefile(output) for folder in folders):
            raise ConfigError(f"The output {output} holds the {what}.", hint="Choose another -o.")


def _manifest(
    name: str, path: Path, task: str, found: Imported, options: Mapping[str, object]
) -> Manifest:
    model, exported = found.model, found.exported
    sha256 = model_hash(path)
    kind = str((exported.processor or {}).get("kind"))
    return Manifest(
        name=name,
        created_by=created_by(),
        stage="imported",
        task=task,
        source=Source(
            kind="onnx",
            id=path.name,
            revision=None,
            sha256=sha256,
            architecture=model.name,
            parameters=model.parameters,
            dtype=model.dtype,
            license=None,
            origin=Origin(path.name, sha256),
        ),
        components=dict(exported.components),
        processor=exported.processor,
        labels=exported.labels,
        requires=Requires(engine="onnxruntime", extras=("ort", *EXTRAS.get(kind, ()))),
        steps=(
            Step(
                "import",
                options,
                None,
                versions(_LIBRARIES),
                0.0,
                {**exported.facts, "precision": exported.precision},
            ),
        ),
        golden=None if exported.golden is None else Golden(GOLDEN_NAME),
    )
