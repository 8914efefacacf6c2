"""Products in 8 bits: activations against weights, with ranges found at run time or before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.quantization.graphs.drafting import Draft
from edgekit.quantization.graphs.grouping import Site
from edgekit.quantization.graphs.numbers import Quantized, Scale, quantize_weight
from edgekit.quantization.graphs.reading import Floats, Graph
from edgekit.quantization.recipes import Recipe


@dataclass(frozen=True)
class Numbers:
    """What was found for a graph before a candidate is written.

    ``factors`` divide an entering tensor channel by channel and multiply the weights' rows,
    ``scales`` are those of tensors whose range is known, ``chained`` names for a tensor that is in
    8 bits already the one whose scale it has (see `chains`), ``shifts`` are added to what a node
    answers with, channel by channel.
    """

    factors: Mapping[str, Floats] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    chained: Mapping[str, str] = field(default_factory=dict)
    shifts: Mapping[str, Floats] = field(default_factory=dict)


def smoothed_name(tensor: str) -> str:
    """The name of a tensor after its division by the factors."""
    return f"{tensor}/smoothed"


def matrix(graph: Graph, site: Site) -> Floats:
    """The weight of a MatMul or Gemm as ``[rows, columns]``, whichever way it is stored."""
    weight = graph.array(site.weight)
    return weight.T if site.turned else weight


def integer_weight(graph: Graph, site: Site, recipe: Recipe, factors: Floats | None) -> Quantized:
    """The weight of a site in 8 bits, after the factors."""
    if site.operator == "Conv":
        return quantize_weight(
            graph.array(site.weight), 0, kind=recipe.weights, reduce_range=recipe.reduce_range
        )
    weight = matrix(graph, site)
    if factors is not None:
        weight = weight * factors[:, None]
    return quantize_weight(weight, 1, kind=recipe.weights, reduce_range=recipe.reduce_range)


def add_dynamic(draft: Draft, site: Site, recipe: Recipe, numbers: Numbers) -> None:
    """A MatMul or Gemm whose activations are told in 8 bits at run time."""
    factors = numbers.factors.get(site.entering)
    entering = _smooth(draft, site, factors)
    codes, scale, zero = (f"{entering}/{part}" for part in ("codes", "scale", "zero"))
    draft.once(
        codes,
        lambda: draft.add(
            "DynamicQuantizeLinear", [entering], [codes, scale, zero], f"{entering}/quantize"
        ),
    )
    weight = integer_weight(draft.graph, site, recipe, factors)
    names = _weight_constants(draft, site, weight)
    node = site.node
    draft.add("MatMulInteger", [codes, names[0], zero, names[2]], [f"{node}/sums"], f"{node}/sums")
    draft.add("Cast", [f"{node}/sums"], [f"{node}/wide"], f"{node}/wide", to=1)
    draft.add("Mul", [scale, names[1]], [f"{node}/scales"], f"{node}/scales")
    _finish(draft, site, numbers, ("Mul", [f"{node}/wide", f"{node}/scales"]))


def add_static(draft: Draft, site: Site, recipe: Recipe, numbers: Numbers) -> None:
    """A MatMul, Gemm or Conv between dequantized tensors, which the engine fuses."""
    factors = numbers.factors.get(site.entering)
    entering = _smooth(draft, site, factors)
    scale = numbers.scales[numbers.chained.get(entering, entering)]
    told = entering
    if entering not in numbers.chained:
        told = add_rounding(draft, entering, f"{site.node}/entering", scale)
    weight = integer_weight(draft.graph, site, recipe, factors)
    values, scales, zeros = _weight_constants(draft, site, weight)
    turned = f"{site.weight}/told"
    draft.once(
        turned,
        lambda: draft.add(
            "DequantizeLinear", [values, scales, zeros], [turned], turned, axis=weight.axis
        ),
    )
    if site.operator == "MatMul":
        _finish(draft, site, numbers, ("MatMul", [told, turned]))
        return
    node = draft.copy(draft.graph.producers[site.leaving])
    node.input[0], node.input[1] = told, turned
    for item in node.attribute:
        if item.name == "transB":
            item.i = 0
    bias = _bias(draft, site, numbers)
    if bias is None:
        return
    # The node goes behind its bias.
    draft.nodes.pop()
    name = _integer_bias(draft, site, bias, scale, weight)
    del node.input[2:]
    node.input.append(name)
    draft.nodes.append(node)


def add_rounding(draft: Draft, tensor: str, output: str, scale: Scale) -> str:
    """QuantizeLinear of a tensor, made once, and a DequantizeLinear of its own; the result."""
    step, zero = add_scale(draft, tensor, scale)
    codes = f"{tensor}/codes"
    draft.once(codes, lambda: draft.add("QuantizeLinear", [tensor, step, zero], [codes], codes))
    return draft.add("DequantizeLinear", [codes, step, zero], [output], output)


def add_scale(draft: Draft, tensor: str, scale: Scale) -> tuple[str, str]:
    """The constants of a tensor's scale and zero point."""
    return (
        draft.constant(f"{tensor}/scale", np.array(scale.scale, dtype=np.float32)),
        draft.constant(f"{tensor}/zero", np.array(scale.zero, dtype=scale.dtype)),
    )


def _smooth(draft: Draft, site: Site, factors: Floats | None) -> str:
    if factors is None:
        return site.entering
    name = smoothed_name(site.entering)
    inverse = f"{site.entering}/smoothing"

    def make() -> None:
        draft.constant(inverse, (1 / factors).astype(np.float32))
        draft.add("Mul", [site.entering, inverse], [name], name)

    return draft.once(name, make)


def _weight_constants(draft: Draft, site: Site, weight: Quantized) -> tuple[str, str, str]:
    return (
        draft.constant(f"{site.weight}/int8", weight.values),
        draft.constant(f"{site.weight}/scales", weight.scales),
        draft.constant(f"{site.weight}/zeros", weight.zeros),
    )


def _finish(draft: Draft, site: Site, numbers: Numbers, last: tuple[str, Sequence[str]]) -> None:
    """The last node of a product, its bias, and the shift where there is no bias to put it in."""
    operator, inputs = last
    bias: Floats | str | None = None
    if site.operator == "Gemm":
        bias = _bias(draft, site, numbers)
    else:
        shift = numbers.shifts.get(site.node)
        if shift is not None and not _shift_bias(draft, site, shift):
            bias = shift
    if bias is None:
        draft.add(operator, inputs, [site.leaving], site.node)
        return
    draft.add(operator, inputs, [f"{site.node}/product"], f"{site.node}/product")
    name = bias
    if not isinstance(name, str):
        name = draft.constant(f"{site.node}/bias", np.asarray(bias, dtype=np.float32))
    draft.add("Add", [f"{site.node}/product", name], [site.leaving], site.node)


def _bias(draft: Draft, site: Site, numbers: Numbers) -> Floats | str | None:
    """The bias of a Gemm or Conv with its shift; a tensor's name where it is not a constant."""
    node = draft.graph.producers[site.leaving]
    shift = numbers.shifts.get(site.node)
    if len(node.input) < 3 or not node.input[2]:
        return shift
    if node.input[2] not in draft.graph.weights:
        return str(node.input[2])
    bias = draft.graph.array(node.input[2])
    return bias if shift is None else bias + shift


def _shift_bias(draft: Draft, site: Site, shift: Floats) -> bool:
    """Put a shift into the bias that is added to a MatMul next; False where there is none."""
    bias = next_bias(draft.graph, site)
    if bias is None:
        return False
    draft.constant(bias, draft.graph.array(bias) + shift)
    return True


def next_bias(graph: Graph, site: Site) -> str | None:
    """The constant that is added to a MatMul next and to nothing else."""
    readers = graph.readers.get(site.leaving, ())
    if len(readers) != 1 or readers[0].op_type != "Add" or site.leaving in graph.outputs:
        return None
    for name in readers[0].input:
        if graph.is_float(name) and len(graph.shape(name)) == 1 and len(graph.readers[name]) == 1:
            return str(name)
    return None


def _integer_bias(
    draft: Draft, site: Site, bias: Floats | str, scale: Scale, weight: Quantized
) -> str:
    """A bias in the 32-bit integers that the sums are made in, or in float where it cannot be."""
    if isinstance(bias, str):
        return bias
    name = f"{site.node}/bias"
    if bias.ndim != 1:
        return draft.constant(name, bias.astype(np.float32))
    steps = (weight.scales * scale.scale).astype(np.float32)
    codes = np.rint(bias.astype(np.float64) / steps)
    if np.abs(codes).max(initial=0) >= 2**31:
        return draft.constant(name, bias.astype(np.float32))
    draft.constant(f"{name}/int32", codes.astype(np.int32))
    draft.constant(f"{name}/scales", steps)
    return draft.add("DequantizeLinear", [f"{name}/int32", f"{name}/scales"], [name], name, axis=0)
