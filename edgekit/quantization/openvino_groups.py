"""What can be quantized in an OpenVINO graph: operators with constant weights, in tied groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.openvino import bodies, nested_nodes
from edgekit.quantization.excluding import EXCLUDED, excluded
from edgekit.quantization.recipes import Group, KeptFloat

if TYPE_CHECKING:
    import openvino as ov

_ATTENTION = "ScaledDotProductAttention"
_CONVOLUTIONS = frozenset(
    {
        "Convolution",
        "GroupConvolution",
        "ConvolutionBackpropData",
        "GroupConvolutionBackpropData",
    }
)
_RECURRENT = frozenset(
    {"LSTMSequence", "GRUSequence", "LSTMCell", "GRUCell", "RNNSequence", "RNNCell"}
)
_WEIGHTED = _CONVOLUTIONS | {"Gather", "MatMul"}
# What else multiplies by weights or looks them up.
_OTHERS = frozenset(
    {
        "DeformableConvolution", "Einsum", "EmbeddingBagOffsets", "EmbeddingBagOffsetsSum",
        "EmbeddingBagPacked", "EmbeddingBagPackedSum", "EmbeddingSegmentsSum",
    }
)  # fmt: skip
_ACTIVATIONS = frozenset({"Gelu", "Relu", "Swish", "HSwish", "Erf", "Sigmoid", "Elu", "Mish"})
# Operators that hand on what they get: the same numbers, in another place or shape.
MOVING = frozenset(
    {
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split", "VariadicSplit",
        "Slice", "StridedSlice", "MaxPool", "Broadcast", "Pad", "Gather",
    }
)  # fmt: skip
_CONSTANT_PATH = frozenset({"Convert", "FakeQuantize", "Transpose", "Reshape"})
_FLOATS = ("f32", "f16", "bf16")
_LAYER = re.compile(r"(?:^|[/.])(?:layers?|h|blocks?)[/._](\d+)(?=[/.]|$)")


@dataclass(frozen=True)
class Weighted:
    """An operator with a constant weight: on which port it is, and on which the activations are."""

    node: ov.Node
    weight: int
    activation: int
    parameters: int

    @property
    def name(self) -> str:
        """The operator's name in the graph."""
        return str(self.node.get_friendly_name())

    @property
    def title(self) -> str:
        """The name that it had before OpenVINO took its bias out of it."""
        return title(self.name)

    @property
    def kind(self) -> str:
        """The operator's type; see OpenVINO's operation sets."""
        return str(self.node.get_type_name())


def title(name: str) -> str:
    """An operator's name as the model that it was read from has it."""
    return name.removesuffix("/WithoutBiases")


def weighted(node: ov.Node) -> Weighted | None:
    """The operator as one that can be quantized; None when it has no weights of its own."""
    kind = str(node.get_type_name())
    if kind == "Gather":
        ports = [(0, 1)]
    elif kind == "MatMul":
        ports = [(1, 0), (0, 1)]
    elif kind in _CONVOLUTIONS:
        ports = [(1, 0)]
    else:
        return None
    for weight, activation in ports:
        constant = constant_of(node.input_value(weight))
        if constant is None or constant_of(node.input_value(activation)) is not None:
            continue
        shape = list(constant.get_output_shape(0))
        if constant.get_output_element_type(0).get_type_name() in _FLOATS and len(shape) > 1:
            return Weighted(node, weight, activation, int(np.prod(shape)))
    return None


def constant_of(output: ov.Output) -> ov.Node | None:
    """The constant that an output is, maybe converted, quantized or turned round; else None."""
    node = output.get_node()
    while node.get_type_name() in _CONSTANT_PATH:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def is_quantized(model: ov.Model) -> bool:
    """Whether a graph holds weights of 8 or 4 bits, or operators that round."""
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == "FakeQuantize":
            return True
        # Small ones are constants of other kinds: tables of bytes, masks.
        if kind == "Constant" and len(node.get_output_shape(0)) > 1:
            target = {
                user.get_node().get_type_name() for user in node.output(0).get_target_inputs()
            }
            low = node.get_output_element_type(0).get_type_name() in ("i8", "u8", "i4", "u4")
            if low and "Convert" in target:
                return True
    return False


def find_groups(
    model: ov.Model, exclude: Sequence[str]
) -> tuple[tuple[Group, ...], tuple[KeptFloat, ...]]:
    """(what can be quantized, what has weights and cannot or must not be), in the graph's order.

    Matrix multiplications of one input, like the three before an attention, are one group: the
    rounding of that input is theirs together. `exclude`: see `excluding.excluded`.

    Raises ConfigError for a pattern that matches nothing.
    """
    nodes = list(model.get_ordered_ops())
    found = [item for item in map(weighted, nodes) if item is not None]
    kept = [
        KeptFloat(title(name), reason)
        for name, reason in (_unsupported(node) for node in nodes)
        if reason is not None
    ]
    kept += [
        KeptFloat(title(str(inner.get_friendly_name())), f"it runs inside a {node.get_type_name()}")
        for node in nodes
        for body in bodies(node)
        for inner in nested_nodes(body)
        if weighted(inner) is not None or _unsupported(inner)[1] is not None
    ]
    tied: dict[tuple[str, int] | str, list[Weighted]] = {}
    for item in found:
        source = item.node.input_value(item.activation)
        shared = item.kind != "Gather"
        key = (str(source.get_node().get_friendly_name()), source.get_index())
        tied.setdefault(key if shared else item.name, []).append(item)
    kinds = [_kind(items[0]) for items in tied.values()]
    names = _names([items[0].title for items in tied.values()], kinds)
    groups = [
        Group(name, tuple(item.name for item in items), kind, sum(i.parameters for i in items))
        for name, kind, items in zip(names, kinds, tied.values(), strict=True)
    ]
    titles = {item.name: item.title for item in found}
    left_out = excluded(exclude, groups, titles=titles, kept=[one.node for one in kept])
    kept += [
        KeptFloat(titles[node], EXCLUDED)
        for group in groups
        if group.name in left_out
        for node in group.nodes
    ]
    return tuple(group for group in groups if group.name not in left_out), tuple(kept)


def _unsupported(node: ov.Node) -> tuple[str, str | None]:
    """(an operator's name, why its constant weights stay in float), None for one without."""
    kind, name = str(node.get_type_name()), str(node.get_friendly_name())
    if kind in _RECURRENT:
        return name, "recurrent layers are left in float"
    if weighted(node) is not None or not (kind in _WEIGHTED or kind in _OTHERS):
        return name, None
    inputs = [constant_of(value) for value in node.input_values()]
    weights = [
        constant
        for constant in inputs
        if constant is not None
        and constant.get_output_element_type(0).get_type_name() in _FLOATS
        and constant.get_output_shape(0)
    ]
    if not weights or all(constant is not None for constant in inputs):
        return name, None
    return name, (
        f"OpenVINO has no integer kernel for {kind}"
        if kind in _OTHERS
        else "its weights are a vector"
    )


def _names(firsts: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """``layer.3.feed-forward output`` where the operator's name tells the layer, else its name."""
    layers = [_LAYER.search(name) for name in firsts]
    wanted = [
        f"layer.{layer[1]}.{kind}" if layer and kind != "linear" else name
        for name, kind, layer in zip(firsts, kinds, layers, strict=True)
    ]
    count = Counter(wanted)
    return [name if count[name] == 1 else first for name, first in zip(wanted, firsts, strict=True)]


def _kind(item: Weighted) -> str:
    if item.kind == "Gather":
        return "embedding"
    if item.kind in _CONVOLUTIONS:
        return "convolution"
    after = {str(node.get_type_name()) for node in _around(item.node, forward=True)}
    if after & {_ATTENTION, "Softmax"}:
        return "attention input"
    source = item.node.input_value(item.activation).get_node()
    before = {str(source.get_type_name())}
    before |= {str(node.get_type_name()) for node in _around(source, forward=False)}
    if before & {_ATTENTION, "Softmax"}:
        return "attention output"
    if before & _ACTIVATIONS:
        return "feed-forward output"
    return "feed-forward input" if after & _ACTIVATIONS else "linear"


def _around(start: ov.Node, *, forward: bool) -> Iterator[ov.Node]:
    """The operators after (or before) one, up to the next normalisation or operator with weights.

    What only computes a shape or a mask is among them where it flows in.
    """
    waiting, seen = [start], set()
    while waiting:
        node = waiting.pop()
        for next_node in after(node) if forward else before(node):
            name = str(next_node.get_friendly_name())
            if name in seen:
                continue
            seen.add(name)
            yield next_node
            ends = next_node.get_type_name() in ("MVN", "Add" if not forward else "MVN", _ATTENTION)
            if not ends and weighted(next_node) is None:
                waiting.append(next_node)


def after(node: ov.Node) -> list[ov.Node]:
    """The operators that take what one makes, sorted by name."""
    users = [user.get_node() for port in node.outputs() for user in port.get_target_inputs()]
    return sorted(users, key=lambda user: str(user.get_friendly_name()))


def before(node: ov.Node) -> list[ov.Node]:
    """The operators that make what one takes, constants left out."""
    return [
        value.get_node()
        for value in node.input_values()
        if value.get_node().get_type_name() != "Constant"
    ]
