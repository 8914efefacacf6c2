"""One component's graph: traced, repaired, named, cleaned, and described for the manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from edgekit.core.errors import ExportError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.exporters.cases import Case, Inputs
from edgekit.exporters.exported import Array
from edgekit.exporters.module import trace_module, trace_program
from edgekit.exporters.transformers import trace_pretrained
from edgekit.graph.onnx_axes import declared_shape, frozen_axes, name_axes, true_shape
from edgekit.graph.onnx_clean import (
    name_by_module,
    order_interface,
    share_weights,
    strip_metadata,
)
from edgekit.graph.onnx_rotary import expand_rotary_caches
from edgekit.sources.loaded import LoadedSource

# Every wrapper of edgekit.sources holds the model under this name.
_PREFIX = "model."


def trace(
    source: LoadedSource,
    sample: Inputs,
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
    opset: int,
) -> ir.Model:
    """The graph of a source, traced with `sample`. Raises ExportError."""
    dynamic = {name: tuple(named) for name, named in axes.items()}
    if source.program is not None:
        return trace_program(source.program, tuple(sample), outputs, opset=opset)
    if source.kind == "huggingface":
        with source.module.traceable() if source.feeder else contextlib.nullcontext():  # type: ignore[operator]
            return trace_pretrained(source.module, sample, dynamic, opset=opset)
    return trace_module(source.module, sample, dynamic, outputs, opset=opset)


def finish(
    source: LoadedSource,
    model: ir.Model,
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
    cases: Sequence[Case],
    references: Sequence[Mapping[str, Array]],
) -> tuple[str, ...]:
    """Repair, name and clean the graph in place; the inputs that it takes."""
    _refuse_frozen(source, model, axes)
    parameters = {tensor.data_ptr(): name for name, tensor in source.module.named_parameters()}
    name_by_module(model, parameters, prefix=_PREFIX)
    # torch.onnx's fusion of rotary embeddings computes their angles anew for every layer.
    CommonSubexpressionEliminationPass()(model)
    expand_rotary_caches(model)
    share_weights(model)
    inputs = order_interface(
        model, tuple(source.sample_inputs), outputs, drop_unused=source.tokenizer is not None
    )
    _refuse_lost(source, inputs)
    declared = {value.name: declared_shape(value) for value in model.graph.outputs}
    shapes = {
        name: true_shape(
            name,
            [
                ({s: n for s, n in case.sizes.items() if s in symbols_of(axes)}, found[name].shape)
                for case, found in zip(cases, references, strict=True)
            ],
            declared[name],
        )
        for name in outputs
    }
    name_axes(model, axes, shapes)
    strip_metadata(model)
    model.graph.name = source.architecture
    model.producer_name, model.producer_version = "edgekit", None
    return inputs


def symbols_of(axes: Mapping[str, Mapping[int, str]]) -> set[str]:
    """The names of the axes that vary."""
    return {symbol for named in axes.values() for symbol in named.values()}


def _refuse_frozen(
    source: LoadedSource, model: ir.Model, axes: Mapping[str, Mapping[int, str]]
) -> None:
    frozen = frozen_axes(model, axes)
    if frozen:
        first = frozen[0]
        raise ExportError(
            f"The trace of {source.architecture} froze axis {first.axis} of {first.name}"
            f" ({first.symbol!r}) at {first.size}, although it should vary.",
            hint=f"If it may be fixed, pass --static {first.symbol}={first.size} or declare it as"
            " a number with --input; otherwise make forward() independent of its size.",
        )


def _refuse_lost(source: LoadedSource, inputs: Sequence[str]) -> None:
    lost = [name for name in source.sample_inputs if name not in inputs]
    # A model without type embeddings takes token types and ignores them.
    if source.tokenizer is not None:
        lost = [name for name in lost if name != "token_type_ids"]
    if lost:
        raise ExportError(
            f"The input {lost[0]!r} does not reach any output of {source.architecture} and is"
            " missing from the graph.",
            hint="Give sample inputs for which it matters (a mask with zeros in it), or leave it"
            " out of forward().",
        )


def component_of(model: ir.Model, files: tuple[str, ...], inputs: Sequence[str]) -> Component:
    """The graph as the manifest describes it."""
    by_name = {value.name: value for value in model.graph.inputs}
    return Component(
        format="onnx",
        files=files,
        inputs=tuple(_spec(by_name[name]) for name in inputs),
        outputs=tuple(_spec(value) for value in model.graph.outputs),
    )


def _spec(value: ir.Value) -> TensorSpec:
    name = value.name or ""
    assert value.dtype is not None
    shape = tuple(
        f"{name}_{axis}" if dim is None else dim for axis, dim in enumerate(declared_shape(value))
    )
    return TensorSpec(name, _DTYPES.get(value.dtype.name, value.dtype.name.lower()), shape)


_DTYPES = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}


def facts_of(model: ir.Model) -> dict[str, str | int | float | bool]:
    """What the step records of the graph."""
    operators = [node.op_type for node in model.graph.all_nodes()]
    return {
        "nodes": len(operators),
        "attention_nodes": operators.count("Attention"),
        "ir_version": model.ir_version,
    }
