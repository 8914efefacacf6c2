"""Weights that are only stored in few bits: blocks, rows of a table, half precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import QuantizeError
from edgekit.core.lazy import require
from edgekit.quantization.graphs.drafting import Draft, add_blocks
from edgekit.quantization.graphs.grouping import Site
from edgekit.quantization.graphs.numbers import quantize_rows, quantize_weight
from edgekit.quantization.graphs.reading import Floats, Ints
from edgekit.quantization.recipes import Rounding
from edgekit.runtime.engines.onnxruntime import import_onnxruntime

_FLOAT, _FLOAT16 = 1, 10
_LARGEST_HALF = 65504.0
# The zero point of 8-bit codes that have none of their own; see MatMulNBits.
_MIDDLE = 128
# Columns that are rounded at a time: a head has as many as the vocabulary has words.
_SLICE = 4096
_Bytes = NDArray[np.uint8]


def add_blockwise(draft: Draft, site: Site, *, bits: int, block: int, rounding: Rounding) -> None:
    """A MatMul or Gemm whose weight is stored with one scale for each `block` of its rows."""
    shape = draft.graph.shape(site.weight)
    columns, rows = shape if site.turned else shape[::-1]
    inputs = [site.entering, *_blocks(draft, site, bits=bits, block=block, rounding=rounding)]
    node = draft.graph.producers[site.leaving]
    bias = node.input[2] if site.operator == "Gemm" and len(node.input) > 2 else ""
    output = f"{site.node}/product" if bias else site.leaving
    label = output if bias else site.node
    add_blocks(draft, inputs, output, label, bits=bits, block=block, rows=rows, columns=columns)
    if bias:
        draft.add("Add", [output, bias], [site.leaving], site.node)


def _blocks(
    draft: Draft, site: Site, *, bits: int, block: int, rounding: Rounding
) -> tuple[str, ...]:
    """The constants of a weight ``[rows, columns]``, made once for all that read it.

    They are codes ``[columns, blocks, bytes]``, scales ``[columns, blocks]``, and by k-quant the
    zero points, packed.
    """
    name = site.weight
    parts = (f"int{bits}", "scales", *(("zeros",) if rounding == "k-quant" else ()))
    names = tuple(f"{name}/{part}" for part in parts)

    def make() -> None:
        stored = draft.graph.array(name)
        by_column = stored if site.by_row else stored.T
        found = [
            _rounded(by_column[first : first + _SLICE], bits, block, rounding)
            for first in range(0, len(by_column), _SLICE)
        ]
        for constant, parts in zip(names, zip(*found, strict=True), strict=True):
            draft.constant(constant, np.concatenate(parts))

    draft.once(names[0], make)
    return names


def _rounded(weight: Floats, bits: int, block: int, rounding: Rounding) -> tuple[Ints, ...]:
    """Some columns of a weight, each as it lies in a row: the parts of `_blocks`."""
    columns, rows = weight.shape
    blocks = -(-rows // block)
    padded = np.zeros((columns, blocks * block), dtype=np.float32)
    padded[:, :rows] = weight
    blocked = padded.reshape(columns * blocks, block)
    codes, scales, zeros = (_k_quant if rounding == "k-quant" else _nearest)(blocked, bits, block)
    parts = (_packed(codes, bits).reshape(columns, blocks, -1), scales.reshape(columns, blocks))
    if zeros is None:
        return parts
    return (*parts, _packed(zeros.reshape(columns, blocks), bits).reshape(-1))


def _nearest(blocked: Floats, bits: int, block: int) -> tuple[_Bytes, Floats, _Bytes | None]:
    """Symmetric codes around the middle, which is MatMulNBits' zero point by default."""
    middle = 1 << (bits - 1)
    ends = np.take_along_axis(blocked, np.abs(blocked).argmax(axis=1)[:, None], axis=1)
    # The largest number gets the end of the codes that has one more.
    scales = ends / np.float32(-middle)
    safe = np.where(scales == 0, np.float32(1), scales)
    codes = np.clip(np.rint(blocked / safe) + middle, 0, 2 * middle - 1)
    return codes.astype(np.uint8), scales.astype(np.float32), None


def _k_quant(blocked: Floats, bits: int, block: int) -> tuple[_Bytes, Floats, _Bytes | None]:
    import_onnxruntime()
    tools = require("onnxruntime.quantization.neural_compressor.weight_only", "build")
    codes, scales, zeros = tools.quant_tensor_k_quant_cpu(blocked, bits, block)
    top = (1 << bits) - 1
    return (
        np.clip(codes, 0, top).astype(np.uint8),
        scales.astype(np.float32),
        np.clip(np.rint(zeros), 0, top).astype(np.uint8),
    )


def _packed(codes: _Bytes, bits: int) -> _Bytes:
    """Codes of the last axis, two to a byte where they have 4 bits, the first in the lower half."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], axis=-1)
    high = np.left_shift(codes[..., 1::2], np.uint8(4))
    return np.bitwise_or(codes[..., 0::2], high)


def add_rows(draft: Draft, site: Site) -> None:
    """An embedding of 8-bit rows: only the rows that are read become floats again."""
    codes, scales = quantize_rows(draft.graph.array(site.weight))
    table = draft.constant(f"{site.weight}/int8", codes)
    steps = draft.constant(f"{site.weight}/scales", scales)
    node = site.node
    draft.add("Gather", [table, site.entering], [f"{node}/codes"], f"{node}/codes")
    draft.add("Cast", [f"{node}/codes"], [f"{node}/wide"], f"{node}/wide", to=_FLOAT)
    draft.add("Gather", [steps, site.entering], [f"{node}/scales"], f"{node}/scales")
    draft.add("Mul", [f"{node}/wide", f"{node}/scales"], [site.leaving], node)


def add_block_rows(draft: Draft, site: Site, *, block: int) -> None:
    """An embedding that reads its rows from the 8-bit blocks of the head that it is tied to.

    Plain operators do what `com.microsoft.GatherBlockQuantized` would, which wants the table in
    another shape than MatMulNBits: it would have to be stored twice, or reshaped by the engine.
    """
    codes, scales = _blocks(draft, site, bits=8, block=block, rounding="nearest")
    size = draft.graph.shape(site.weight)[1]
    node = site.node
    middle = draft.constant("edgekit/blocks/middle", np.array(_MIDDLE, dtype=np.float32))
    last = draft.constant("edgekit/blocks/last", np.array([-1], dtype=np.int64))
    width = draft.constant(f"{node}/width", np.array([-(-size // block) * block], dtype=np.int64))
    draft.add("Gather", [codes, site.entering], [f"{node}/codes"], f"{node}/codes")
    draft.add("Cast", [f"{node}/codes"], [f"{node}/wide"], f"{node}/wide", to=_FLOAT)
    draft.add("Sub", [f"{node}/wide", middle], [f"{node}/centred"], f"{node}/centred")
    draft.add("Gather", [scales, site.entering], [f"{node}/steps"], f"{node}/steps")
    draft.add("Unsqueeze", [f"{node}/steps", last], [f"{node}/scales"], f"{node}/scales")
    draft.add("Mul", [f"{node}/centred", f"{node}/scales"], [f"{node}/blocks"], f"{node}/blocks")
    draft.add("Shape", [site.entering], [f"{node}/places"], f"{node}/places")
    draft.add("Concat", [f"{node}/places", width], [f"{node}/shape"], f"{node}/shape", axis=0)
    reshaped = [f"{node}/blocks", f"{node}/shape"]
    if size % block == 0:
        draft.add("Reshape", reshaped, [site.leaving], node)
        return
    start = draft.constant("edgekit/blocks/start", np.array([0], dtype=np.int64))
    end = draft.constant(f"{node}/size", np.array([size], dtype=np.int64))
    draft.add("Reshape", reshaped, [f"{node}/flat"], f"{node}/flat")
    draft.add("Slice", [f"{node}/flat", start, end, last], [site.leaving], node)


def add_stored_convolution(draft: Draft, site: Site) -> None:
    """A convolution in float whose weight is stored in 8 bits, one scale per output channel."""
    weight = quantize_weight(draft.graph.array(site.weight), 0)
    name = site.weight
    parts = (
        draft.constant(f"{name}/int8", weight.values),
        draft.constant(f"{name}/scales", weight.scales),
    )
    told = f"{name}/told"
    draft.once(told, lambda: draft.add("DequantizeLinear", parts, [told], told, axis=0))
    draft.copy(draft.graph.producers[site.leaving]).input[1] = told


def add_half(draft: Draft, site: Site) -> None:
    """An operator in float whose weight is stored in half precision.

    Raises QuantizeError for numbers that half precision does not reach.
    """
    half = f"{site.weight}/half"

    def make() -> None:
        weight = draft.graph.array(site.weight)
        largest = float(np.abs(weight).max(initial=0.0))
        if not largest <= _LARGEST_HALF:
            raise QuantizeError(
                f"The weight {site.weight} holds {largest:g}; half precision ends at 65504.",
                hint=f"Leave it out with --exclude {site.node!r}.",
            )
        draft.constant(half, weight.astype(np.float16))

    draft.once(half, make)
    node = draft.graph.producers[site.leaving]
    if site.operator == "Gather":
        # Only the rows that are read are widened.
        copied = draft.copy(node)
        copied.input[0], copied.output[0] = half, f"{site.node}/half"
        copied.name = f"{site.node}/half"
        draft.add("Cast", [f"{site.node}/half"], [site.leaving], site.node, to=_FLOAT)
        return
    told = f"{site.weight}/told"
    draft.once(told, lambda: draft.add("Cast", [half], [told], told, to=_FLOAT))
    # A Gemm turns its weight itself.
    if site.operator == "MatMul" and site.turned:
        turned = f"{told}/turned"
        told = draft.once(
            turned, lambda: draft.add("Transpose", [told], [turned], turned, perm=[1, 0])
        )
    draft.copy(node).input[1] = told
