"""Takes quantization from operators of a graph again, or stores weights in half precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import QuantizeError
from edgekit.quantization.openvino_groups import (
    MOVING,
    Weighted,
    after,
    before,
    constant_of,
    weighted,
)
from edgekit.runtime.engines.openvino import import_openvino

if TYPE_CHECKING:
    import openvino as ov

_QUANTIZE = "FakeQuantize"
# How NNCF names the multiplications that it adds.
_SMOOTHING = "nncf_smooth_quant"
_HALF_MAX = float(np.finfo(np.float16).max)


def raise_operators(model: ov.Model, original: ov.Model, names: Collection[str]) -> None:
    """Make some operators what they are in `original`, the graph before it was quantized, in place.

    Their inputs are not rounded any more, and weights and biases are those from before scales were
    moved between activations and weights, and biases corrected. Rounding that only serves sums and
    poolings goes too where no operator near it has rounded weights any more.
    """
    found = _by_name(model)
    was = _by_name(original)
    biases = {str(node.get_friendly_name()): node for node in original.get_ops()}
    for name in names:
        _bypass(found[name].node, found[name].activation)
        _restore(found[name].node, found[name].weight, was[name].node)
        for user in after(found[name].node):
            twin = biases.get(str(user.get_friendly_name()))
            for port in (0, 1) if user.get_type_name() == "Add" and twin is not None else ():
                _restore(user, port, twin)
    _drop_idle(model)


def store_half(
    model: ov.Model, names: Iterable[str], kind: Literal["f16", "bf16"] = "f16"
) -> dict[str, int]:
    """Store the weights of some operators in 16 bits, in place; return how many of each type.

    Weights in bfloat16 are what a device that computes in it makes of float32 ones anyway.

    Raises QuantizeError when one is beyond the range of float16.
    """
    from openvino import opset13 as opset

    found = _by_name(model)
    stored: Counter[str] = Counter()
    for item in (found[name] for name in names):
        stored[item.kind] += 1
        constant = constant_of(item.node.input_value(item.weight))
        # One that is shared was stored with the first that reads it.
        if constant is None or constant.get_output_element_type(0).get_type_name() != "f32":
            continue
        values = np.array(constant.data)
        if kind == "f16" and not np.abs(values).max(initial=0.0) <= _HALF_MAX:
            raise QuantizeError(
                f"A weight of {item.title} is beyond the range of float16 ({_HALF_MAX:.0f}).",
                hint="Leave the operator out with --exclude, or use another --method.",
            )
        name = str(constant.get_friendly_name())
        half = opset.constant(values.astype(np.float16) if kind == "f16" else _bfloat16(values))
        half.set_friendly_name(f"{name}/half")
        wide = opset.convert(half, "f32")
        wide.set_friendly_name(f"{name}/wide")
        constant.output(0).replace(wide.output(0))
    return dict(sorted(stored.items()))


def _bfloat16(values: NDArray[np.float32]) -> ov.Tensor:
    """The numbers rounded to the nearest bfloat16, to even ones of two as near.

    What OpenVINO itself makes of a float32 array is not always the nearest.
    """
    openvino = import_openvino()
    bits = np.ascontiguousarray(values).view(np.uint32)
    even = (bits >> 16) & 1
    rounded = ((bits + (0x7FFF + even)) >> 16).astype(np.uint16)
    made = openvino.Tensor(openvino.Type.bf16, openvino.Shape(values.shape))
    # Its memory is handed out as numpy's 16-bit floats: the bits are what counts.
    made.data[:] = rounded.view(np.float16)
    return made


def _bypass(node: ov.Node, port: int) -> None:
    """Feed an input with what it would be if nothing on the way to it had been rounded."""
    source = node.input_value(port)
    exact = _exact(source)
    if exact != source:
        node.input(port).replace_source_output(exact)


def _exact(output: ov.Output) -> ov.Output:
    """The tensor neither rounded nor scaled; what only moves it is made once more for that."""
    node = output.get_node()
    kind = str(node.get_type_name())
    if kind == _QUANTIZE or _SMOOTHING in node.get_friendly_name():
        return _exact(node.input_value(0))
    if kind not in MOVING or weighted(node) is not None:
        return output
    inputs = node.input_values()
    exact = [_exact(value) for value in inputs]
    if all(new == old for new, old in zip(exact, inputs, strict=True)):
        return output
    from openvino.utils.node_factory import NodeFactory

    copy = NodeFactory(node.get_type_info().version_id).create(kind, exact, node.get_attributes())
    copy.set_friendly_name(f"{node.get_friendly_name()}/exact")
    return copy.output(output.get_index())


def _restore(node: ov.Node, port: int, original: ov.Node) -> None:
    """Give an input the constant that it had, if it is one."""
    now = constant_of(node.input_value(port))
    then = constant_of(original.input_value(port))
    if now is None or then is None:
        return
    from openvino import opset13 as opset

    values = opset.constant(np.array(then.data), shared_memory=False)
    values.set_friendly_name(str(then.get_friendly_name()))
    first = node.input_value(port).get_node()
    if first.get_type_name() in (_QUANTIZE, "Constant"):
        node.input(port).replace_source_output(values.output(0))
    else:
        now.output(0).replace(values.output(0))
        _bypass(node, port)


def _drop_idle(model: ov.Model) -> None:
    """Remove the rounding before sums and poolings that nothing quantized is left around."""
    for node in list(model.get_ordered_ops()):
        if node.get_type_name() != _QUANTIZE or constant_of(node.output(0)) is not None:
            continue
        if not any(_is_near_quantized(node, forward=way) for way in (True, False)):
            node.output(0).replace(node.input_value(0))


def _by_name(model: ov.Model) -> dict[str, Weighted]:
    return {item.name: item for item in map(weighted, model.get_ordered_ops()) if item is not None}


def _is_near_quantized(start: ov.Node, *, forward: bool) -> bool:
    """Whether one of the nearest operators with weights, in one direction, has them rounded."""
    waiting, seen = [start], set()
    while waiting:
        last = waiting.pop()
        for node in after(last) if forward else before(last):
            name = str(node.get_friendly_name())
            if name in seen:
                continue
            seen.add(name)
            item = weighted(node)
            if item is None:
                waiting.append(node)
            elif _is_rounded(node.input_value(item.weight)):
                return True
    return False


def _is_rounded(weight: ov.Output) -> bool:
    node = weight.get_node()
    while node.get_type_name() not in ("Constant", _QUANTIZE):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == _QUANTIZE)
