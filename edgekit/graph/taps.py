"""Copies of a graph whose inner tensors are outputs, so that an engine shows them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.graph.onnx_light import append_outputs, read_light
from edgekit.runtime.engines.openvino import check_ir, import_openvino

if TYPE_CHECKING:
    import onnx
    import openvino as ov

_FLOATS = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class InnerTensor:
    """A tensor between two operators: which one makes it, and about how many bytes it takes."""

    name: str
    operator: str
    bytes: int


def onnx_tensors(path: Path, sizes: Mapping[str, int]) -> list[InnerTensor]:
    """What the operators of an ONNX graph make, in the graph's order.

    `sizes` are those of its symbolic axes; an axis that is not among them is taken to be as long as
    the longest of them.
    """
    model = read_light(path)
    known = _bytes_of(model, sizes)
    # Nothing told of it: take it to be large.
    unknown = max(known.values(), default=1 << 20)
    return [
        InnerTensor(name, str(node.op_type), known.get(name, unknown))
        for node in model.graph.node
        for name in node.output
        if name and node.op_type != "Constant"
    ]


def _bytes_of(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, int]:
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}
    longest = max(sizes.values(), default=1)
    found: dict[str, int] = {}
    for value in (*model.graph.value_info, *model.graph.output):
        kind = value.type.tensor_type
        if not kind.elem_type or not kind.HasField("shape"):
            continue
        extents = [
            dim.dim_value if dim.HasField("dim_value") else sizes.get(dim.dim_param, longest)
            for dim in kind.shape.dim
        ]
        width = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
        found[value.name] = int(np.prod(extents, dtype=np.int64)) * width
    return found


def tensor_names(component: Component, folder: Path) -> frozenset[str]:
    """The names of a graph's inner tensors. For an OpenVINO IR: those it kept from ONNX."""
    path = folder / component.files[0]
    if component.format == "onnx":
        return frozenset(tensor.name for tensor in onnx_tensors(path, {}))
    return frozenset(
        name for port in _float_ports(_read_ir(path)) for name in map(str, port.get_names())
    )


def write_tapped(
    component: Component, folder: Path, names: Sequence[str], target: Path
) -> Component:
    """Write the graph into `target` with the named tensors as its outputs; its new component.

    Raises ConfigError for a format that is not known.
    """
    outputs = tuple(TensorSpec(name, "float32", ()) for name in names)
    path = folder / component.files[0]
    if component.format == "onnx":
        _tap_onnx(path, component, folder, names, target)
    elif component.format == "openvino-ir":
        _tap_ir(path, names, target / path.name)
    else:
        raise ConfigError(f"The tensors inside {component.format} cannot be looked at.")
    return Component(component.format, component.files, component.inputs, outputs)


def _tap_onnx(
    path: Path, component: Component, folder: Path, names: Sequence[str], target: Path
) -> None:
    present = {output.name for output in read_light(path).graph.output}
    shutil.copyfile(path, target / path.name)
    append_outputs(target / path.name, [name for name in names if name not in present])
    for extra in component.files[1:]:
        try:
            # Engines refuse weights behind a symbolic link.
            os.link(folder / extra, target / extra)
        except OSError:
            shutil.copyfile(folder / extra, target / extra)


def _tap_ir(path: Path, names: Sequence[str], xml: Path) -> None:
    model = _read_ir(path)
    present = {str(name) for port in model.outputs for name in port.get_names()}
    inner = [name for name in names if name not in present]
    if inner:
        model.add_outputs(inner)
    import_openvino().save_model(model, str(xml), compress_to_fp16=False)


def _read_ir(path: Path) -> ov.Model:
    check_ir(path)
    return import_openvino().Core().read_model(str(path))


def _float_ports(model: ov.Model) -> list[ov.Output]:
    return [
        port
        for node in model.get_ordered_ops()
        if str(node.get_type_name()) not in ("Parameter", "Constant", "Result")
        for port in node.outputs()
        if port.get_element_type().get_type_name() in _FLOATS
    ]
