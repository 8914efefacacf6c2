"""`export_model`: one loaded source as a checked ONNX graph with its processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core.errors import ConfigError, ExportError, disk_errors
from edgekit.core.tolerance import tolerance_for
from edgekit.exporters.cases import (
    Case,
    check_static,
    golden_inputs,
    parity_cases,
    sizes_of,
    traced_sample,
)
from edgekit.exporters.declared import declared_batch, fit_declared
from edgekit.exporters.exported import Array, Exported, GoldenBatch
from edgekit.exporters.graphs import component_of, facts_of, finish, symbols_of, trace
from edgekit.exporters.memory import release_weights
from edgekit.exporters.parity import compare, reference, to_numpy
from edgekit.exporters.picture_parity import check_picture_processor
from edgekit.exporters.pictures import build_picture_processor, check_static_size
from edgekit.exporters.processor_parity import check_processor
from edgekit.exporters.processors import TOKENIZER_FILE, build_processor, write_tokenizer
from edgekit.exporters.sound_parity import check_frames, check_sound_processor
from edgekit.exporters.sounds import build_sound_processor
from edgekit.graph.onnx_save import save_model
from edgekit.sources.loaded import LoadedSource

DEFAULT_OPSET = 23
OPSETS = range(18, 24)

_FIXED = (
    "With all dimensions fixed there is one shape to compare with PyTorch: the one that was"
    " traced, with other values."
)


def export_model(
    source: LoadedSource,
    directory: Path,
    *,
    opset: int = DEFAULT_OPSET,
    static: Mapping[str, int] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    processor: Mapping[str, object] | None = None,
) -> Exported:
    """Write the source's ONNX graph and processor into `directory`, proved equal to PyTorch.

    The processor is compared with transformers' tokenizer before the trace, the saved graph with
    PyTorch at shapes that were not traced, in ONNX Runtime. `static` fixes dimensions by name;
    `processor` is one that was declared for a custom module.

    Raises:
        ConfigError: an opset or dimension that does not exist.
        ExportError: the module cannot be traced, an axis froze, the graph or the processor
            differs from PyTorch or transformers, or the disk is full.
    """
    if opset not in OPSETS:
        raise ConfigError(
            f"The opset {opset} is not supported.",
            hint=f"Give one from {OPSETS.start} to {OPSETS.stop - 1}; {DEFAULT_OPSET} is the"
            " default.",
        )
    if source.precision == "bf16":
        raise ExportError(
            "ONNX Runtime has no bfloat16 kernels on the CPU, so a bfloat16 graph could not be"
            " compared with PyTorch.",
            hint="Export in float32 (the default): engines that compute in bfloat16 convert it"
            " themselves.",
        )
    chosen = _Chosen(opset, dict(static or {}), atol, rtol, processor)
    if source.generative:
        # It brings transformers, which a module of one's own has no use for.
        from edgekit.exporters.generative.components import export_generative

        return export_generative(
            source,
            directory,
            opset=opset,
            static=chosen.static,
            tolerance=tolerance_for(source.precision, atol=atol, rtol=rtol),
        )
    if not source.parts:
        return _export_part(source, directory, "model", chosen)
    known = {
        symbol.partition(".")[2]
        for axes in source.dynamic_axes.values()
        for symbol in axes.values()
    }
    check_static(chosen.static, tuple(sorted(known)), source.id)
    found = {
        name: _export_part(part, directory, name, replace(chosen, static=_own(part, chosen.static)))
        for name, part in source.parts.items()
    }
    return _merged(found)


@dataclass(frozen=True)
class _Chosen:
    """The options of an export."""

    opset: int
    static: Mapping[str, int]
    atol: float | None
    rtol: float | None
    processor: Mapping[str, object] | None


def _own(part: LoadedSource, static: Mapping[str, int]) -> dict[str, int]:
    """The fixed sizes of dimensions that a part has."""
    held = {symbol for axes in part.dynamic_axes.values() for symbol in axes.values()}
    return {symbol: size for symbol, size in static.items() if symbol in held}


def _merged(parts: Mapping[str, Exported]) -> Exported:
    """Several components as one export, with their names before those of tensors."""
    first = next(iter(parts.values()))
    batches = {name: part.golden for name, part in parts.items() if part.golden is not None}
    golden = None
    if len(batches) == len(parts):
        golden = GoldenBatch(
            {
                f"{name}.{key}": v
                for name, batch in batches.items()
                for key, v in batch.inputs.items()
            },
            {
                f"{name}.{key}": v
                for name, batch in batches.items()
                for key, v in batch.reference.items()
            },
        )
    return Exported(
        components={name: part.component for name, part in parts.items()},
        files=tuple(dict.fromkeys(file for part in parts.values() for file in part.files)),
        processor={"kind": "image-text", **{name: part.processor for name, part in parts.items()}},
        labels=None,
        parity=tuple(
            replace(row, output=f"{name}.{row.output}")
            for name, part in parts.items()
            for row in part.parity
        ),
        golden=golden,
        opset=first.opset,
        precision=first.precision,
        facts={
            f"{name}.{key}": value
            for name, part in parts.items()
            for key, value in part.facts.items()
        },
        notes=tuple(dict.fromkeys(note for part in parts.values() for note in part.notes)),
    )


def _export_part(source: LoadedSource, directory: Path, name: str, chosen: _Chosen) -> Exported:
    """One component's graph in `directory`, named after it, and its processor."""
    opset, processor = chosen.opset, chosen.processor
    fixed = dict(chosen.static)
    check_static_size(source, fixed)
    length = source.max_length
    if length is not None:
        length = min(length, fixed.get("sequence", length))
    tolerance = tolerance_for(source.precision, atol=chosen.atol, rtol=chosen.rtol)
    graph_file = f"{name}.onnx"
    sample = traced_sample(source, fixed)
    axes = _varying(source, fixed)
    cases = parity_cases(source, sample, fixed)
    # Each reference is computed once: for the parity, the output shapes and the golden batch.
    references = [reference(source, case.inputs) for case in cases]
    made: Mapping[str, object] | None = None
    with disk_errors(ExportError, "writing the exported graph"):
        outputs = tuple(references[0])
        model = trace(source, sample, axes, outputs, opset)
        inputs = finish(source, model, axes, outputs, cases, references)
        component_files = save_model(model, directory / graph_file)
        component = component_of(model, component_files, inputs)
        facts = facts_of(model)
        facts["largest_input_compared"] = max(
            value.numel() for case in cases for value in case.inputs.values()
        )
        # The graph's weights and the session's would otherwise be in memory together.
        release_weights(model, source.module)
        del model
        files = [(graph_file, "component"), *((name, "weights") for name in component_files[1:])]
        if source.tokenizer is not None and length is not None:
            made = build_processor(source, inputs, length)
            write_tokenizer(source.tokenizer, directory / TOKENIZER_FILE)
            files.append((TOKENIZER_FILE, "processor"))
            facts["processor_texts_compared"] = check_processor(source, made, directory)
        elif source.image_processor is not None:
            made = build_picture_processor(source, inputs)
            facts["processor_pictures_compared"] = check_picture_processor(source, made)
        elif source.feature_extractor is not None:
            made = build_sound_processor(source, inputs)
            facts["processor_sounds_compared"] = check_sound_processor(source, made)
            check_frames(made, source, cases, references)
        elif processor is not None:
            made = fit_declared(processor, component, source.labels)
        parity = compare(source, directory, component, cases, references, tolerance)
    return Exported(
        components={name: component},
        files=tuple(files),
        processor=made,
        labels=source.labels,
        parity=parity,
        golden=_golden(source, fixed, inputs, cases[0], references[0], processor and made),
        opset=opset,
        precision=source.precision,
        facts=facts,
        notes=(*source.notes, *(() if symbols_of(axes) else (_FIXED,))),
    )


def _varying(source: LoadedSource, fixed: Mapping[str, int]) -> dict[str, dict[int, str]]:
    return {
        name: {axis: symbol for axis, symbol in axes.items() if symbol not in fixed}
        for name, axes in source.dynamic_axes.items()
    }


def _golden(
    source: LoadedSource,
    fixed: Mapping[str, int],
    inputs: Sequence[str],
    case: Case,
    outputs: Mapping[str, Array],
    declared: Mapping[str, object] | None,
) -> GoldenBatch | None:
    """Inputs with PyTorch's answers; pictures where a declared processor says how to read them."""
    total = sum(array.nbytes for array in outputs.values())
    if source.tokenizer is not None:
        per_row = -(-total // case.inputs["input_ids"].numel())
    else:
        sizes = sizes_of(source, case.inputs)
        per_row = -(-total // (sizes.get("batch", 1) * sizes.get("samples", 1)))
    batch = golden_inputs(source, fixed, per_row)
    if batch is None:
        return None
    if declared is not None:
        batch = declared_batch(declared, batch)
    answers = reference(source, batch)
    return GoldenBatch({name: to_numpy(batch[name]) for name in inputs}, answers)
