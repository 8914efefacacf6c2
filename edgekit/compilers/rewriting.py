"""Changes of an ONNX graph before its engine sees it.

Half precision, fixed sizes, a decoder's cache in buffers, no notes of the build machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.compilers.inspection import nodes
from edgekit.core.errors import CompileError
from edgekit.core.lazy import require
from edgekit.core.manifest import Component, TensorSpec
from edgekit.graph import onnx_half
from edgekit.runtime.caches import CAPACITY, cache_pairs

if TYPE_CHECKING:
    import onnx


def halve(model: onnx.ModelProto, *, large: bool) -> onnx.ModelProto:
    """The model in half precision, except for its inputs and outputs.

    `large` says that the model does not fit into one protobuf message, which shape inference needs.
    ``onnxruntime`` must have been imported through the runtime before, for its telemetry.

    Raises CompileError when the converter refuses the graph.
    """
    try:
        return onnx_half.halve(model, large=large)
    except ValueError as error:
        raise CompileError(
            f"The graph cannot be converted to half precision: {error}.",
            hint="Use --set options.onnxruntime.precision=fp32.",
        ) from error


def buffer_cache(
    model: onnx.ModelProto, context: int | None
) -> tuple[onnx.ModelProto, dict[str, int]] | None:
    """A decoder, whose weights are in memory, that keeps its cache in buffers, and what was done.

    ``context`` is the most tokens of a row, where that is known. None where its attention has
    another form than those that are known; see `edgekit.graph.decoders`.
    """
    from edgekit.graph.decoders import fusing, grouping

    serde = require("onnx_ir.serde", "build")
    graph = serde.deserialize_model(model)
    grouped = grouping.group_attention(graph, CAPACITY, context)
    if not grouped:
        return None
    facts = {
        "grouped_attention": grouped,
        "turning_attention": sum(
            node.attributes.get_int("do_rotary", 0) == 1
            for node in graph.graph
            if node.op_type == "GroupQueryAttention"
        ),
        "fused_norms": fusing.fuse_norms(graph),
        "merged_products": fusing.merge_products(graph),
        "packed_projections": fusing.pack_projections(graph),
    }
    return serde.serialize_model(graph), facts


def has_cache(part: Component) -> bool:
    """Whether a component keeps what it read for its next step."""
    return bool(cache_pairs(part.inputs, part.outputs))


def with_buffers(part: Component) -> Component:
    """A component as the manifest describes it once its cache is in buffers."""
    pairs = cache_pairs(part.inputs, part.outputs)
    cached = {name for spec, present in pairs for name in (spec.name, present)}

    def named(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(spec, shape=(*spec.shape[:2], CAPACITY, *spec.shape[3:]))
            if spec.name in cached
            else spec
            for spec in specs
        )

    return replace(part, inputs=named(part.inputs), outputs=named(part.outputs))


def fix_sizes(model: onnx.ModelProto, part: Component, sizes: Mapping[str, int]) -> None:
    """Give the dimensions of a component their sizes wherever its graph declares a shape.

    They go by input and axis: the names in a graph that was imported may be others, or none.

    Raises CompileError where the graph has no such input or axis.
    """
    if not sizes:
        return
    given = {value.name: value for value in model.graph.input}
    named: dict[str, set[int | None]] = {}
    for spec in part.inputs:
        shape = _shape_of(given.get(spec.name), spec)
        for own, dim in zip(spec.shape, shape.dim, strict=True):
            size = sizes.get(own) if isinstance(own, str) else None
            if dim.dim_param:
                named.setdefault(dim.dim_param, set()).add(size)
            if size is not None:
                dim.dim_value = size
    # A name that stands for several sizes, or for one that still varies, says nothing elsewhere.
    known = {name: next(iter(found)) for name, found in named.items() if len(found) == 1}
    told = {value.name: value for value in model.graph.output}
    for spec in part.outputs:
        shape = told[spec.name].type.tensor_type.shape if spec.name in told else None
        if shape is not None and len(shape.dim) == len(spec.shape):
            for own, dim in zip(spec.shape, shape.dim, strict=True):
                if isinstance(own, str) and own in sizes:
                    dim.dim_value = sizes[own]
    for value in (*model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            size = known.get(dim.dim_param)
            if size is not None:
                dim.dim_value = size


def _shape_of(value: onnx.ValueInfoProto | None, spec: TensorSpec) -> onnx.TensorShapeProto:
    """The shape that a graph declares for an input; open axes where it declares none."""
    shape = None if value is None else value.type.tensor_type.shape
    if value is not None and shape is not None and not value.type.tensor_type.HasField("shape"):
        for _ in spec.shape:
            shape.dim.add()
    if shape is None or len(shape.dim) != len(spec.shape):
        raise CompileError(
            f"The graph has no input {spec}, so that no size of it can be fixed.",
            hint="Export or import the model again.",
        )
    return shape


def strip_traces(model: onnx.ModelProto) -> None:
    """Remove notes from nodes, values and graphs: they may hold paths of the build machine."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    for node in nodes(model):
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
        value.doc_string = ""
