"""ONNX to OpenVINO's IR: names, shapes and precision kept, attention one operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import CompileError, ConfigError, EdgekitError, disk_errors
from edgekit.core.manifest import TensorSpec
from edgekit.core.profiles import Profile, float_precision, nearest
from edgekit.core.versions import release
from edgekit.graph.disk import raise_if_full
from edgekit.runtime.engines.openvino import check_ir, import_openvino, short_reason, version

if TYPE_CHECKING:
    import openvino as ov

# What to ask a device for, by the precision of a profile.
PRECISION_HINTS: Mapping[str, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
# In a profile: leave the choice to the device. In a manifest that is the absence of the option.
DEVICE_CHOICE = "device"

_ATTENTION = "ScaledDotProductAttention"
# The oldest OpenVINO that the extra installs reads IRs of this operation set; tried with 2026.0.0.
_OLDEST = "2026.0"
_OLDEST_OPSET = 16
# Operators that hold graphs, and how to get at them.
_BODIES: Mapping[str, tuple[str, ...]] = {
    "If": ("get_then_body", "get_else_body"),
    "Loop": ("get_function",),
    "TensorIterator": ("get_body",),
}


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote: the specs with the static sizes, and what the graph holds.

    ``operators`` counts the operators by type, ``opset`` is the newest operation set among them
    and ``attention`` the number of attentions that are one operator.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    opset: int
    attention: int


def convert(
    source: Path,
    xml: Path,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    static: Mapping[str, int] | None = None,
    compress_to_fp16: bool = False,
) -> Converted:
    """Write an ONNX file (or an IR) as an IR: `xml`, and its weights beside it as ``.bin``.

    The specs are the manifest's: inputs and outputs are found by their names and keep them, and
    their symbols say which axes `static` fixes. Weights stay float32 unless `compress_to_fp16`;
    OpenVINO's own default compresses. The same input gives the same bytes, whatever its folder.

    Raises:
        MissingDependency: OpenVINO is not installed.
        BundleUnsafe: `source` is named like an IR and is something else.
        CompileError: it does not take the graph, or an axis that should vary has a fixed size
            afterwards, or the disk is full.
    """
    openvino = import_openvino()
    sizes = dict(static or {})
    try:
        # read_model, unlike convert_model, adds nothing about this conversion to the file.
        if source.suffix == ".xml":
            check_ir(source)
        model = openvino.Core().read_model(str(source))
        _name_ports(model.inputs, inputs, "input", source)
        _name_ports(model.outputs, outputs, "output", source)
        name_nodes(model)
        if sizes:
            model.reshape(
                {spec.name: [_extent(dim, sizes) for dim in spec.shape] for spec in inputs}
            )
    except EdgekitError:
        raise
    except Exception as error:  # OpenVINO raises RuntimeError, TypeError and its own
        raise CompileError(
            f"OpenVINO does not take {source.name}: {short_reason(error)}",
            hint="Compile for an onnxruntime target, or export the model with an older --opset.",
        ) from error
    # What OpenVINO finds of an output's own axis, which no input shares, is no freezing.
    varying = frozenset(dim for spec in inputs for dim in spec.shape if isinstance(dim, str))
    if sizes:
        # An axis that no size was given for may depend on one that was.
        varying = frozenset()
    new_inputs = _measured(model.inputs, inputs, source, varying)
    new_outputs = _measured(model.outputs, outputs, source, varying)
    with disk_errors(CompileError, f"writing {xml.name}"):
        try:
            openvino.save_model(model, str(xml), compress_to_fp16=compress_to_fp16)
        except Exception as error:
            raise_if_full(xml.parent)
            raise CompileError(
                f"OpenVINO cannot write {xml.name}: {short_reason(error)}"
            ) from error
    operators = Counter(str(node.get_type_name()) for node in nested_nodes(model))
    return Converted(
        inputs=new_inputs,
        outputs=new_outputs,
        operators=dict(sorted(operators.items())),
        opset=newest_opset(model),
        attention=operators[_ATTENTION],
    )


def precision_hint(profile: Profile) -> str:
    """What a target computes floats in: f32, bf16, f16, or "device" for the device's own choice.

    The profile's first floating-point precision, unless its options.openvino.precision_hint says.

    Raises ConfigError for an option that is none of these.
    """
    asked = profile.options.get("openvino", {}).get("precision_hint")
    if asked is None:
        return PRECISION_HINTS[float_precision(profile)]
    known = (*PRECISION_HINTS.values(), DEVICE_CHOICE)
    if not isinstance(asked, str) or asked not in known:
        raise ConfigError(
            f"options.openvino.precision_hint is {asked!r}.", hint=nearest(str(asked), known)
        )
    return asked


def newest_opset(model: ov.Model) -> int:
    """The newest operation set among a graph's operators."""
    return max((_opset(node) for node in nested_nodes(model)), default=1)


def oldest_reader(opset: int) -> str:
    """The oldest release of OpenVINO that is known to read IRs of an operation set."""
    return _OLDEST if opset <= _OLDEST_OPSET else release(version())


def bodies(node: ov.Node) -> Iterator[ov.Model]:
    """The graphs inside an If, a Loop or a TensorIterator."""
    for method in _BODIES.get(str(node.get_type_name()), ()):
        yield getattr(node, method)()


def nested_nodes(model: ov.Model) -> Iterator[ov.Node]:
    """All nodes in the order of the graph, those of inner graphs behind the one that holds them."""
    for node in model.get_ordered_ops():
        yield node
        for body in bodies(node):
            yield from nested_nodes(body)


def name_nodes(model: ov.Model) -> None:
    """Number the nodes without a name by their place in the graph.

    OpenVINO numbers them by how many this process has made so far, and writes that into the file.
    """
    nodes = list(nested_nodes(model))
    taken = {str(node.get_friendly_name()) for node in nodes}
    numbers: Counter[str] = Counter()
    for node in nodes:
        if node.get_friendly_name() != node.get_name():
            continue
        kind = str(node.get_type_name())
        name = f"{kind}.{numbers[kind]}"
        while name in taken:
            numbers[kind] += 1
            name = f"{kind}.{numbers[kind]}"
        taken.add(name)
        node.set_friendly_name(name)


def _extent(dim: int | str, sizes: Mapping[str, int]) -> int:
    return sizes.get(dim, -1) if isinstance(dim, str) else dim


def _name_ports(
    ports: Iterable[ov.Output], specs: Sequence[TensorSpec], what: str, source: Path
) -> None:
    """Leave each port the one name that the manifest has for it.

    A tensor that is an output and something else too has several; which comes first is chance.
    """
    wanted = {spec.name for spec in specs}
    found: set[str] = set()
    for port in ports:
        names = set(port.get_names()) & wanted
        if len(names) == 1:
            port.get_tensor().set_names(names)
        found |= names
    if found != wanted:
        raise CompileError(
            f"After OpenVINO read {source.name}, its {what} {sorted(wanted - found)[0]!r} is gone.",
            hint="Compile for an onnxruntime target.",
        )


def _measured(
    ports: Iterable[ov.Output],
    specs: Sequence[TensorSpec],
    source: Path,
    varying: Collection[str],
) -> tuple[TensorSpec, ...]:
    """The specs with the sizes that the model has now, in the manifest's order."""
    shapes = {name: port.get_partial_shape() for port in ports for name in port.get_names()}
    measured: list[TensorSpec] = []
    for spec in specs:
        shape = shapes[spec.name]
        dims: list[int | str] = []
        for axis, dim in enumerate(spec.shape):
            static = shape.rank.is_static and shape[axis].is_static
            if isinstance(dim, int) or not static:
                dims.append(dim)
                continue
            if dim in varying:
                raise CompileError(
                    f"OpenVINO froze the axis {dim} of {spec.name} in {source.name} at"
                    f" {shape[axis].get_length()}.",
                    hint=f"Compile with --static {dim}={shape[axis].get_length()}, or export the"
                    " model again with an input of another length.",
                )
            dims.append(int(shape[axis].get_length()))
        measured.append(replace(spec, shape=tuple(dims)))
    return tuple(measured)


def _opset(node: ov.Node) -> int:
    version = str(node.get_type_info().version_id or "")
    digits = version.removeprefix("opset")
    return int(digits) if digits.isdigit() else 1
