"""Names of dimensions in an ONNX graph: found frozen, renamed, corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

# After torch.export these carry the sample's sequence length in the shapes behind them, although
# the node itself takes any length.
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})

Dimension = int | str


@dataclass(frozen=True)
class FrozenAxis:
    """An input axis that should vary and is a number in the graph."""

    name: str
    axis: int
    symbol: str
    size: int


def frozen_axes(model: ir.Model, axes: Mapping[str, Mapping[int, str]]) -> tuple[FrozenAxis, ...]:
    """The input axes of the wanted ones (input → axis → symbol) that the trace made constant."""
    found = []
    for value in model.graph.inputs:
        for axis, symbol in axes.get(value.name or "", {}).items():
            dim = _dims(value)[axis]
            if isinstance(dim, int):
                found.append(FrozenAxis(value.name or "", axis, symbol, dim))
    return tuple(found)


def name_axes(
    model: ir.Model,
    axes: Mapping[str, Mapping[int, str]],
    outputs: Mapping[str, Sequence[Dimension]],
) -> None:
    """Give the graph's dimensions the wanted names, in place and idempotent.

    `axes` names input axes; several symbols of the trace may become one name. `outputs` holds the
    true shape of each output, which replaces the declared one. In between, symbols follow the
    inputs' and expressions over them become unknown; behind recurrent nodes every shape is
    dropped, because the trace froze it.
    """
    renamed: dict[str, str] = {}
    for value in model.graph.inputs:
        wanted = axes.get(value.name or "", {})
        for axis, dim in enumerate(_dims(value)):
            if isinstance(dim, str) and axis in wanted:
                renamed[dim] = wanted[axis]
    known = {*renamed.values(), *(name for named in axes.values() for name in named.values())}
    recurrent = any(node.op_type in _RECURRENT for node in model.graph.all_nodes())
    for value in _computed(model):
        if value.shape is None:
            continue
        if recurrent:
            value.shape = None
            continue
        dims = [_rename(dim, renamed, known) for dim in value.shape]
        # Shape objects can be shared between values: a new one leaves the others alone.
        value.shape = ir.Shape(dims)
    for value in model.graph.inputs:
        wanted = axes.get(value.name or "", {})
        dims = [wanted.get(axis, dim) for axis, dim in enumerate(_dims(value))]
        value.shape = ir.Shape(dims)
    for value in model.graph.outputs:
        value.shape = ir.Shape(list(outputs[value.name or ""]))


def _rename(
    dim: int | ir.SymbolicDim, renamed: Mapping[str, str], known: set[str]
) -> int | str | None:
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return None
    name = str(dim.value)
    return renamed.get(name, name if name in known else None)


def _dims(value: ir.Value) -> list[int | str | None]:
    if value.shape is None:
        return []
    return [
        dim if isinstance(dim, int) else (None if dim.value is None else str(dim.value))
        for dim in value.shape
    ]


def _computed(model: ir.Model) -> Iterator[ir.Value]:
    """Every value that a node computes, in the main graph and in subgraphs."""
    for node in model.graph.all_nodes():
        yield from node.outputs


def true_shape(
    name: str,
    measured: Sequence[tuple[Mapping[str, int], Sequence[int]]],
    declared: Sequence[int | str | None],
) -> tuple[Dimension, ...]:
    """The shape of an output from runs at several sizes: numbers, symbols, or names of its own.

    `measured` pairs the sizes of the symbols with the output's shape in PyTorch. An axis that
    followed a symbol in every run bears its name; one that varied otherwise, or that the graph
    leaves open, is called `<output>_<axis>`; the rest are numbers.
    """
    rank = len(measured[0][1])
    shape: list[Dimension] = []
    for axis in range(rank):
        sizes = [result[axis] for _, result in measured]
        symbol = _following(sizes, [symbols for symbols, _ in measured])
        open_in_graph = axis < len(declared) and not isinstance(declared[axis], int)
        if symbol is not None:
            shape.append(symbol)
        elif len(set(sizes)) > 1 or open_in_graph:
            shape.append(f"{name}_{axis}")
        else:
            shape.append(sizes[0])
    return tuple(shape)


def _following(sizes: Sequence[int], runs: Sequence[Mapping[str, int]]) -> str | None:
    for symbol in runs[0]:
        values = [run[symbol] for run in runs]
        if values == list(sizes) and len(set(values)) > 1:
            return symbol
    return None


def declared_shape(value: ir.Value) -> tuple[int | str | None, ...]:
    """The shape that the graph declares for a value; None stands for an unknown dimension."""
    return tuple(_dims(value))
