"""Changes of an ONNX graph before its engine sees it: half precision, fixed sizes, no notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.compilers.inspection import nodes
from edgekit.core.errors import CompileError
from edgekit.graph import onnx_half

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


def fix_sizes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
    """Give dimensions their sizes wherever the graph declares a shape."""
    if not sizes:
        return
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


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
