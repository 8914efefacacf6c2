"""MiniLM quantized by the libraries' own functions, one file for each way: what people do today.

The graph has opset 21, where attention is spread over products as those functions expect it. Of a
later one `quantize_dynamic` makes an operator that nothing runs, and NNCF writes invalid ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import edgekit
from benchmarks.models import EMBEDDINGS, source
from edgekit.core.bundle import open_bundle
from edgekit.quantization.openvino_nncf import import_nncf
from edgekit.runtime.engines.onnxruntime import import_onnxruntime

Feeds = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
OPSET = 21
FLOAT = "fp32"
# Of a feed-forward output, the products whose rounding costs most.
_WORST = (1536, 384)


def graphs(folder: Path, rows: Sequence[Feeds]) -> dict[str, Path | Exception]:
    """A file for each way, or what its library raised; the float graph they start from is first.

    `rows` calibrate, one call each.
    """
    import_onnxruntime()
    exported = folder / "exported"
    edgekit.export(source(EMBEDDINGS), exported, opset=OPSET, force=True)
    bundle = open_bundle(exported)
    float_graph = bundle.file(bundle.manifest.components["model"].files[0])
    found: dict[str, Path | Exception] = {}
    for name, make in WAYS.items():
        path = folder / f"{name}.onnx"
        print(f"{EMBEDDINGS}: {name}", flush=True)
        try:
            make(float_graph, path, rows)
        except Exception as error:  # each library has its own
            found[name] = error
        else:
            found[name] = path
    return found


def _plain(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    onnx.save(onnx.load(str(graph)), str(path))


def _dynamic(graph: Path, path: Path, rows: Sequence[Feeds], **options: Any) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options.setdefault("op_types_to_quantize", ["MatMul"])
    quantize_dynamic(str(graph), str(path), weight_type=QuantType.QInt8, **options)


def _by_channel(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    _dynamic(graph, path, rows, per_channel=True)


def _with_embeddings(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    kinds = ["MatMul", "Gather"]
    _dynamic(graph, path, rows, per_channel=True, op_types_to_quantize=kinds)


def _without_worst(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    worst = [name for name, shape in _products(graph) if shape == _WORST]
    _dynamic(graph, path, rows, per_channel=True, nodes_to_exclude=worst)


def _blocks(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    made = MatMulNBitsQuantizer(
        onnx.load(str(graph)), bits=8, block_size=32, is_symmetric=True, accuracy_level=4
    )
    made.process()
    made.model.save_model_to_file(str(path), use_external_data_format=False)


def _static(graph: Path, path: Path, rows: Sequence[Feeds], **options: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One call after the other."""

        def __init__(self) -> None:
            self._rows: Iterator[Feeds] = iter(rows)

        def get_next(self) -> dict[str, Any] | None:
            found = next(self._rows, None)
            return None if found is None else dict(found)

    quantize_static(str(graph), str(path), Reader(), **options)


def _static_products(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    from onnxruntime.quantization import QuantType

    _static(
        graph, path, rows,
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=[name for name, _ in _products(graph)],
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
    )  # fmt: skip


def _nncf(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    nncf = import_nncf()
    made = nncf.quantize(
        onnx.load(str(graph)),
        nncf.Dataset([dict(row) for row in rows]),
        subset_size=len(rows),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    onnx.save(made, str(path))


def _unsigned(graph: Path, path: Path, rows: Sequence[Feeds]) -> None:
    made = path.with_name("nncf.onnx")
    if not made.is_file():
        _nncf(graph, made, rows)
    model = onnx.load(str(made))
    make_unsigned(model)
    onnx.save(model, str(path))


def make_unsigned(model: onnx.ModelProto) -> None:
    """Move activations from signed codes to unsigned ones, and turn tables back to float, in place.

    On x64 ONNX Runtime fuses products of unsigned activations only, and would turn a whole table
    back at each call.
    """
    graph = model.graph
    weights = {one.name: one for one in graph.initializer}
    moved: dict[str, str] = {}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            continue
        zero = numpy_helper.to_array(weights[node.input[2]])
        if zero.dtype != np.int8:
            continue
        if node.input[2] not in moved:
            moved[node.input[2]] = f"{node.input[2]}/unsigned"
            raised = (zero.astype(np.int16) + 128).astype(np.uint8)
            graph.initializer.append(numpy_helper.from_array(raised, moved[node.input[2]]))
        node.input[2] = moved[node.input[2]]
        for kept in [one for one in node.attribute if one.name == "output_dtype"]:
            node.attribute.remove(kept)
    # The types of what was signed.
    del graph.value_info[:]
    tables = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    for node in list(graph.node):
        if node.op_type == "DequantizeLinear" and node.output[0] in tables:
            graph.initializer.append(numpy_helper.from_array(_told(node, weights), node.output[0]))
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for one in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(one)


def _told(
    node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a DequantizeLinear of a constant makes."""
    codes, scale, zero = (numpy_helper.to_array(weights[name]) for name in node.input)
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if scale.ndim:
        shape = [-1 if at == axis % codes.ndim else 1 for at in range(codes.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return np.asarray((codes.astype(np.float32) - zero) * scale, dtype=np.float32)


def _products(graph: Path) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape of the weight) of each MatMul with a constant weight."""
    model = onnx.load(str(graph))
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    return [
        (node.name, shapes[node.input[1]])
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in shapes
    ]


# In the order of the table: the name says which function, and what is asked of it.
WAYS: Mapping[str, Callable[[Path, Path, Sequence[Feeds]], None]] = {
    FLOAT: _plain,
    "quantize_dynamic, per tensor": _dynamic,
    "quantize_dynamic, per channel": _by_channel,
    "quantize_dynamic, per channel, embeddings too": _with_embeddings,
    "quantize_dynamic, per channel, 6 worst in float": _without_worst,
    "MatMulNBits, 8 bits, blocks of 32": _blocks,
    "quantize_static, all defaults": _static,
    "quantize_static, U8S8 products alone": _static_products,
    "nncf": _nncf,
    "nncf, activations made unsigned": _unsigned,
}
