"""export: a PyTorch source becomes a bundle that was compared with PyTorch."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle, BundleWriter, check_output, open_bundle
from edgekit.core.errors import ExportError, disk_errors
from edgekit.core.lazy import require_installed
from edgekit.core.manifest import Golden, Manifest, Origin, Requires, Source, Step
from edgekit.core.results import ExportResult
from edgekit.core.tolerance import tolerance_for
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import created_by, versions
from edgekit.pipeline.trying import try_generation
from edgekit.runtime.golden import (
    GOLDEN_NAME,
    distance,
    effective_precision,
    row_length,
    sampled,
    write,
)
from edgekit.runtime.model import Model
from edgekit.runtime.opening import open_sessions
from edgekit.runtime.timing import peak_bytes

if TYPE_CHECKING:
    from edgekit.exporters.exported import Exported
    from edgekit.sources.loaded import LoadedSource

# What a device must have installed to prepare inputs, by the kind of processor.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("vision",),
    "image-text": ("text", "vision"),
    "audio": ("audio",),
    "generation": ("text",),
}


def export(
    source: str,
    output: Path | str,
    *,
    task: str | None = None,
    inputs: Sequence[str] = (),
    processor: Path | str | None = None,
    opset: int = 23,
    static: Mapping[str, int] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> ExportResult:
    """Export a PyTorch model to an ONNX bundle at `output`.

    The graph is compared with PyTorch at shapes that were not traced, and the torch-free text
    processing with transformers', before anything appears at `output`.

    Args:
        source: a Hugging Face id, a local folder, ``package.module:factory``, ``file.py:factory``
            or a ``program.pt2``.
        inputs: of a custom module, ``NAME=DTYPE:DIM,DIM…`` each.
        processor: of a custom module, a JSON or TOML file in the manifest's vocabulary: how
            pictures are prepared, what the outputs mean, and the labels.
        static: sizes of named dimensions to fix, e.g. ``{"batch": 1}``.
        atol, rtol: replace the tolerance of the comparison with PyTorch.

    Raises:
        ConfigError: wrong options, an output that must not be written.
        SourceError: the source cannot be used as it is.
        ExportError: the export failed or differs from PyTorch.
    """
    started = time.monotonic()
    check_output(Path(output), force=force)
    require_installed(("torch", "transformers", "onnx", "onnx_ir", "onnxscript"), "build")
    require_installed(("onnxruntime",), "ort")
    import torch

    from edgekit.exporters.cases import check_static
    from edgekit.exporters.declared import read_declared
    from edgekit.exporters.model import export_model
    from edgekit.sources.opening import declared_dimensions, open_source

    declared = None if processor is None else read_declared(Path(processor))
    known = declared_dimensions(source, inputs)
    if known is not None:
        # Before the weights are loaded, which may take minutes.
        check_static(static or {}, known, source)
    torch.manual_seed(seed)
    progress(f"Loading {source}")
    loaded = open_source(
        source,
        task=task,
        revision=revision,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        inputs=inputs,
    )
    if declared is not None:
        loaded = declared.apply(loaded)
    with BundleWriter(output, force=force) as writer:
        progress(f"Exporting {loaded.architecture} for {loaded.task}, and comparing with PyTorch")
        exported = export_model(
            loaded,
            writer.directory,
            opset=opset,
            static=static or {},
            atol=atol,
            rtol=rtol,
            processor=None if declared is None else declared.processor,
        )
        for name, role in exported.files:
            writer.add(name, role)
        for path in loaded.license_files:
            writer.copy(path, path.name, "license")
        options = {
            "task": task, "inputs": list(inputs), "opset": opset, "static": static or {},
            "processor": None if processor is None else Path(processor).name,
            "atol": atol, "rtol": rtol, "dtype": dtype, "seed": seed,
        }  # fmt: skip
        manifest = _manifest(writer.output.name, loaded, exported, options)
        architecture = loaded.architecture
        # The weights in PyTorch are not needed any more; the engine is about to load its own.
        del loaded
        gc.collect()
        progress("Saving golden answers")
        save_golden(writer, manifest, exported)
        seconds = time.monotonic() - started
        step = replace(manifest.steps[0], seconds=round(seconds, 3))
        staged = writer.stage(replace(manifest, steps=(step,)))
        result = ExportResult(
            output=Path(output),
            bundle_id=staged.id,
            task=manifest.task,
            architecture=architecture,
            opset=exported.opset,
            inputs=exported.inputs,
            outputs=exported.outputs,
            parity=exported.parity,
            bytes=staged.bytes(),
            seconds=seconds,
            peak_rss_bytes=peak_bytes(),
        )
        writer.commit()
    for note in exported.notes:
        progress(note)
    return result


def export_loaded(
    loaded: LoadedSource,
    output: Path,
    *,
    processor: Mapping[str, object] | None = None,
) -> Bundle:
    """A source that is open already as a bundle at `output`, proved as `export` does.

    `processor` is one that was declared for a custom module. Raises as `export` does.
    """
    from edgekit.exporters.model import export_model

    with BundleWriter(output) as writer:
        exported = export_model(loaded, writer.directory, processor=processor)
        for name, role in exported.files:
            writer.add(name, role)
        manifest = _manifest(writer.output.name, loaded, exported, {})
        save_golden(writer, manifest, exported)
        writer.stage(manifest)
        return writer.commit()


def _manifest(
    name: str, loaded: LoadedSource, exported: Exported, options: Mapping[str, object]
) -> Manifest:
    source = Source(
        kind=loaded.kind,
        id=loaded.id,
        revision=loaded.revision,
        sha256=loaded.sha256,
        architecture=loaded.architecture,
        parameters=loaded.parameters,
        dtype=loaded.dtype,
        license=loaded.license,
        origin=loaded.origin or Origin(loaded.id, loaded.sha256),
    )
    made = exported.processor or {}
    extras = ("ort", *EXTRAS.get(str(made.get("kind")), ()))
    if made.get("input") == "audio":
        extras += ("audio",)
    return Manifest(
        name=name,
        created_by=created_by(),
        stage="exported",
        task=loaded.task,
        source=source,
        components=dict(exported.components),
        processor=exported.processor,
        labels=exported.labels,
        generation=exported.generation,
        requires=Requires(engine="onnxruntime", extras=extras),
        steps=(
            Step(
                "export",
                options,
                None,
                versions(),
                0.0,
                {**exported.facts, "precision": exported.precision},
            ),
        ),
        golden=None if exported.golden is None else Golden(GOLDEN_NAME),
    )


def save_golden(writer: BundleWriter, manifest: Manifest, exported: Exported) -> None:
    """Write the golden file with what this bundle answers, run by the engine that ships it.

    What was written is opened as a device opens it, and asked once where it generates.
    """
    batch = exported.golden
    if batch is None and exported.generation is None:
        return
    staged = writer.stage(replace(manifest, golden=None))
    bundle = open_bundle(staged.path, check="quick")
    session = open_sessions(bundle)
    try:
        model = Model(bundle, session)
        if exported.generation is not None:
            try_generation(model)
        if batch is None:
            return
        answers, again = session.run(batch.inputs), session.run(batch.inputs)
        # What the reference could not answer usefully, an import leaves out.
        expected = {name: one for name, one in answers.items() if name in batch.reference}
        rule = tolerance_for(effective_precision(manifest, session))
    finally:
        session.close()
    for name, first in expected.items():
        max_abs, cosine = distance(again[name], first)
        scale = float(abs(first).max()) if first.size else 0.0
        row = row_length(first)
        if not rule.accepts(max_abs=max_abs, max_reference=scale, cosine=cosine, row=row):
            raise ExportError(
                f"The exported model does not repeat its own answer: {name} differs by"
                f" {max_abs:.3g} between two runs, allowed {rule.describe(row)}.",
                hint="Put the model into eval mode and remove what is random in its forward.",
            )
    with disk_errors(ExportError, f"writing the golden answers of {writer.output}"):
        write(
            writer.add(GOLDEN_NAME, "golden"), batch.inputs, batch.reference,
            sampled(expected, batch.strides), strides=batch.strides,
        )  # fmt: skip
