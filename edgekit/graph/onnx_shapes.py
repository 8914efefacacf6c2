"""What the sizes of an ONNX graph's outputs must be, by its operators alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.lazy import require

if TYPE_CHECKING:
    import onnx

# Tensors of more numbers are weights, whose values decide no shape.
_MOST_NUMBERS = 4096


def inferred_outputs(
    path: Path, inputs: Mapping[str, Sequence[int | str]]
) -> dict[str, tuple[int | None, ...]]:
    """The sizes of the outputs for inputs of these shapes, None where they depend on the data.

    What the file declares of its outputs is not asked. Empty where nothing can be inferred.
    """
    package = require("onnx", "build")
    inference = require("onnx.shape_inference", "build")
    try:
        model: onnx.ModelProto = package.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            if math.prod(tensor.dims) > _MOST_NUMBERS:
                tensor.ClearField("raw_data")
        for value in model.graph.input:
            if value.name in inputs:
                _set_shape(value, inputs[value.name])
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        found = inference.infer_shapes(model, data_prop=True)
    except Exception:  # protobuf's and onnx's errors share no base
        return {}
    return {
        value.name: tuple(
            int(dim.dim_value) if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in found.graph.output
        if value.type.tensor_type.HasField("shape")
    }


def _set_shape(value: onnx.ValueInfoProto, sizes: Sequence[int | str]) -> None:
    value.type.tensor_type.ClearField("shape")
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    for size in sizes:
        dim = shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        else:
            dim.dim_param = size
