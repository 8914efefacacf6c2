"""Reads an ONNX model that somebody else wrote: what it takes and gives, and what it must not be.

Nothing is repaired: the file goes into the bundle byte by byte, so that the hash of the original
stays that of the copy. What cannot be used as it is is refused by name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import SourceError, disk_errors
from edgekit.core.lazy import require
from edgekit.graph.onnx_branches import branch_inputs
from edgekit.graph.onnx_nodes import all_nodes, stored_tensors
from edgekit.graph.onnx_precision import precision_of

if TYPE_CHECKING:
    import onnx

# What ONNX Runtime has kernels for on every machine. The domains in which it writes layouts
# (com.microsoft.nchwc) are made for one kind of processor.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_STANDARD = ("", "ai.onnx")
# Types of onnx.proto that a bundle's inputs and outputs can have.
_TYPES = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "UINT16": "uint16",
    "UINT32": "uint32", "UINT64": "uint64", "BOOL": "bool",
}  # fmt: skip
_UNDEFINED = 0
_LONGEST_NAME = 200
# What numpy has.
_MOST_AXES = 64
_SHOWN = 3


@dataclass(frozen=True)
class Port:
    """An input or output: what the graph declares of it.

    ``shape`` is None where even the number of axes is open; an axis without a name is None.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        shape = "of no declared shape" if self.shape is None else str(list(self.shape))
        return f"{self.name} {self.dtype} {shape}"


@dataclass(frozen=True)
class ForeignModel:
    """What there is to know of a model before it runs.

    ``opsets`` are the operator sets by domain, the standard one being ``opset``; ``dtype`` is the
    type of most of its floating-point numbers, ``precision`` the row of the table of tolerances.
    ``branches`` are the inputs, single whole numbers, that decide which branch of it runs.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opset: int
    opsets: Mapping[str, int]
    ir_version: int
    name: str
    producer: str
    parameters: int
    dtype: str
    precision: str
    operators: Mapping[str, int]
    branches: tuple[str, ...] = ()


def read_foreign(path: Path, weights: Mapping[str, Path]) -> ForeignModel:
    """The model in a file whose external `weights` have been found (see `core.onnx_file`).

    Raises:
        MissingDependency: the onnx package is not installed.
        SourceError: no ONNX model, custom operators, weights that do not fit into their file,
            inputs or outputs that no bundle can have.
    """
    package = require("onnx", "build")
    try:
        model: onnx.ModelProto = package.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise SourceError(
            f"{path} is cut short or damaged: {_first_line(error)}",
            hint="Download or copy it again, or export the model again.",
        ) from error
    _refuse_domains(model, path)
    _check_weights(model, path, weights)
    opsets = {item.domain or "ai.onnx": int(item.version) for item in model.opset_import}
    numbers = _numbers(model)
    operators = Counter(node.op_type for node in _nodes(model))
    return ForeignModel(
        inputs=_inputs(model, path),
        outputs=_ports(model.graph.output, path, "output"),
        opset=next(
            (int(item.version) for item in model.opset_import if item.domain in _STANDARD), 0
        ),
        opsets=opsets,
        ir_version=int(model.ir_version),
        name=_shown(model.graph.name) or path.stem,
        producer=_shown(f"{model.producer_name} {model.producer_version}".strip()),
        parameters=sum(numbers.values()),
        dtype=_most(numbers),
        precision=precision_of(_nodes(model), stored_tensors(model)),
        operators=dict(sorted(operators.items())),
        branches=branch_inputs(model.graph),
    )


def check_foreign(path: Path, named: Path | None = None) -> None:
    """onnx.checker's opinion of the file, with its weights, in a folder that one may write to.

    Raises SourceError, which tells of the file as it was `named`.
    """
    checker = require("onnx.checker", "build")
    model: onnx.ModelProto = require("onnx", "build").load(str(path), load_external_data=False)
    open_ = [
        value
        for value in (*model.graph.input, *model.graph.output)
        if not value.type.tensor_type.HasField("shape")
    ]
    for value in open_:
        # The checker insists on a shape; engines run without, and --input may have told it.
        value.type.tensor_type.shape.SetInParent()
    checked = path.with_name(f".{path.name}.checked") if open_ else path
    if open_:
        # A message has no folder, where the checker would look for weights.
        with disk_errors(SourceError, f"writing {checked.name}"):
            checked.write_bytes(model.SerializeToString())
    try:
        # From the path: a model above 2 GiB does not fit into one message.
        checker.check_model(str(checked))
    except Exception as error:
        named = named or path
        told = _first_line(error).replace(str(checked), str(named))
        told = told.replace(str(checked.parent), str(named.parent))
        raise SourceError(
            f"{named} is not valid ONNX: {told}",
            hint="Export the model again, with a newer exporter if there is one.",
        ) from error
    finally:
        if open_:
            checked.unlink(missing_ok=True)


def _refuse_domains(model: onnx.ModelProto, path: Path) -> None:
    """Custom operators are code of somebody's, which no device has."""
    own = {(function.domain, function.name) for function in model.functions}
    foreign: dict[str, list[str]] = {}
    for node in _nodes(model):
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            found = foreign.setdefault(node.domain, [])
            if node.op_type not in found:
                found.append(node.op_type)
    if not foreign:
        return
    told = "; ".join(
        f"{_printable(domain)}: {', '.join(map(_printable, sorted(found)[:_SHOWN]))}"
        + (", …" if len(found) > _SHOWN else "")
        for domain, found in sorted(foreign.items())
    )
    raise SourceError(
        f"{path} holds custom operators, which the engines of a device do not have ({told}).",
        hint="Leave their part out of the graph, or export the model again with standard operators"
        f" ({', '.join(sorted(filter(None, _DOMAINS)))}); a graph that ONNX Runtime has laid out"
        " for one processor has to be taken from before that.",
    )


def _check_weights(model: onnx.ModelProto, path: Path, weights: Mapping[str, Path]) -> None:
    """Every tensor outside of the message has to lie within its file, and be of its own size."""
    helper = require("onnx.helper", "build")
    sizes = {location: file.stat().st_size for location, file in weights.items()}
    known = set(_types().values()) - {_UNDEFINED}
    for tensor in stored_tensors(model):
        if tensor.data_type not in known:
            raise SourceError(
                f"The tensor {_shown(tensor.name)!r} of {path} has the type {tensor.data_type},"
                " which this release of onnx does not know.",
                hint="Upgrade it (pip install --upgrade onnx), or export the model again.",
            )
        told = {entry.key: entry.value for entry in tensor.external_data}
        if "location" not in told:
            continue
        try:
            offset = int(told.get("offset", 0))
            length = int(told["length"]) if "length" in told else None
        except ValueError as error:
            raise _unfit(path, tensor.name, f"says {error}") from error
        bits = _packed().get(tensor.data_type)
        if bits is None:
            bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        wanted = -(-math.prod(tensor.dims) * bits // 8)
        held = sizes[told["location"]] - offset
        if length is not None and length != wanted:
            raise _unfit(path, tensor.name, f"has {length:,} bytes, its shape needs {wanted:,}")
        if offset < 0 or held < wanted:
            raise _unfit(
                path,
                tensor.name,
                f"needs {wanted:,} bytes from {offset:,} on, and {told['location']} has"
                f" {sizes[told['location']]:,}",
            )


def _unfit(path: Path, tensor: str, why: str) -> SourceError:
    return SourceError(
        f"The external data of {path.name} do not fit it: the tensor {_shown(tensor)!r} {why}.",
        hint="Copy the model and its weights again: they belong to each other.",
    )


def _packed() -> dict[int, int]:
    """The bits of types of which several values share a byte."""
    names = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return {kind: names[name] for name, kind in _types().items() if name in names}


def _types() -> Mapping[str, int]:
    """The types of onnx.proto by their names."""
    return dict(require("onnx", "build").TensorProto.DataType.items())


def _type(kind: int) -> str:
    """The name of a type; that of one from a later onnx.proto is its number."""
    return next((name for name, number in _types().items() if number == kind), str(kind))


def _inputs(model: onnx.ModelProto, path: Path) -> tuple[Port, ...]:
    # Before IR version 4 every weight was listed as an input, whose value one may give.
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    given = [value for value in model.graph.input if value.name not in weights]
    if not given:
        raise SourceError(
            f"{path} takes no input.", hint="Import a model that answers to something."
        )
    return _ports(given, path, "input")


def _ports(values: Sequence[onnx.ValueInfoProto], path: Path, what: str) -> tuple[Port, ...]:
    names: set[str] = set()
    found: list[Port] = []
    for value in values:
        _check_name(value.name, names, path, what)
        names.add(value.name)
        found.append(_port(value, path, what))
    if not found:
        raise SourceError(f"{path} has no {what}.", hint="Export the model again.")
    return tuple(found)


def _check_name(name: str, taken: set[str], path: Path, what: str) -> None:
    reason = None
    if not name:
        reason = "has no name"
    elif name in taken:
        reason = "is there twice"
    elif len(name) > _LONGEST_NAME:
        reason = f"has a name of more than {_LONGEST_NAME} characters"
    elif not name.isprintable() or "\\" in name or ".." in name.split("/"):
        reason = "has a name with characters that are unsafe in files and on terminals"
    if reason:
        raise SourceError(
            f"{path} cannot be imported: its {what} {_printable(name)[:60]!r} {reason}.",
            hint="Rename it in the graph (onnx.tools.update_model_dims, onnx_graphsurgeon or the"
            " input_names and output_names of torch.onnx.export).",
        )


def _port(value: onnx.ValueInfoProto, path: Path, what: str) -> Port:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise SourceError(
            f"The {what} {value.name!r} of {path} is {_a_kind(kind)}, and bundles take and give"
            " tensors.",
            hint="Export the model again with tensors only (in scikit-learn's exporters: zipmap"
            "=False).",
        )
    tensor = value.type.tensor_type
    name = _type(tensor.elem_type)
    if name not in _TYPES:
        raise SourceError(
            f"The {what} {value.name!r} of {path} has the type {name.lower()}, which arrays of"
            " numbers cannot hold.",
            hint=f"Export the model again with another type there: {', '.join(_TYPES.values())}.",
        )
    if not tensor.HasField("shape"):
        return Port(value.name, _TYPES[name], None)
    if len(tensor.shape.dim) > _MOST_AXES:
        raise SourceError(
            f"The {what} {value.name!r} of {path} has {len(tensor.shape.dim):,} axes; arrays have"
            f" up to {_MOST_AXES}.",
            hint="Export the model again.",
        )
    return Port(value.name, _TYPES[name], tuple(_size(dim) for dim in tensor.shape.dim))


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        # Some converters write -1 for a size that varies.
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    # What no name may be as long as is none: such an axis gets one of its own.
    return str(dim.dim_param) if 0 < len(dim.dim_param) <= _LONGEST_NAME else None


def _a_kind(kind: str | None) -> str:
    return "of no type" if kind is None else f"a {kind.removesuffix('_type').replace('_', ' ')}"


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from all_nodes(model.graph.node)
    for function in model.functions:
        yield from all_nodes(function.node)


def _numbers(model: onnx.ModelProto) -> dict[str, int]:
    """How many numbers are stored, by their type in onnx.proto; shapes and scalars left out."""
    names = {kind: name for name, kind in _types().items()}
    counted: Counter[str] = Counter()
    for tensor in stored_tensors(model):
        name = names[tensor.data_type]
        # An int64 is a shape or an axis, or the table of an index: nothing that was trained.
        if name not in ("INT64", "STRING", "BOOL"):
            counted[name] += math.prod(tensor.dims)
    return dict(counted)


def _most(numbers: Mapping[str, int]) -> str:
    kind = max(numbers, key=lambda name: numbers[name], default="FLOAT")
    return _TYPES.get(kind, kind.lower())


def _printable(text: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _shown(text: str) -> str:
    """A name that is only told, cut where it is longer than names may be."""
    told = _printable(text[: _LONGEST_NAME + 1])
    return told if len(told) <= _LONGEST_NAME else f"{told[: _LONGEST_NAME - 1]}…"


def _first_line(error: BaseException) -> str:
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return _printable(told or type(error).__name__).rstrip(".") + "."
