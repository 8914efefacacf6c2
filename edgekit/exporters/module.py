"""Plain modules and exported programs through `torch.onnx.export(dynamo=True)`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.core.errors import ExportError
from edgekit.exporters.tracing import tracing
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor, nn
    from torch.export import ExportedProgram


def trace_module(
    module: nn.Module,
    sample: Mapping[str, Tensor],
    dynamic: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
    *,
    opset: int,
) -> ir.Model:
    """The ONNX graph of a module that takes the sample's tensors by name and returns a dict.

    `dynamic` lists per input the axes that vary; `outputs` are the keys of the returned dict.
    Raises ExportError with what torch said.
    """
    import torch

    # AUTO: with a named Dim the recurrent modules freeze the *input* silently. What AUTO freezes
    # is only the declared shape behind them, which graph.onnx_axes mends.
    shapes = {name: dict.fromkeys(dynamic.get(name, ()), torch.export.Dim.AUTO) for name in sample}
    flat = _with_signature(module, tuple(sample))
    name = type(getattr(module, "model", module)).__name__
    with quiet(), tracing(name), torch.no_grad():
        program = torch.onnx.export(
            flat,
            args=(),
            kwargs=dict(sample),
            dynamic_shapes=shapes,
            dynamo=True,
            opset_version=opset,
            verbose=False,
        )
    assert program is not None
    return _name(program.model, tuple(sample), outputs)


def trace_program(
    program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], *, opset: int
) -> ir.Model:
    """The ONNX graph of a program that torch.export made before. Raises ExportError."""
    import torch

    with quiet(), tracing("the program"), torch.no_grad():
        made = torch.onnx.export(program, dynamo=True, opset_version=opset, verbose=False)
    assert made is not None
    return _name(made.model, inputs, outputs)


def _with_signature(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """The module under a forward() that names its inputs: torch.export bundles **kwargs."""
    from torch import nn

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = getattr(module, "model", module)

        def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
            result: dict[str, Tensor] = module.forward(**inputs)
            return result

    flat = Flat().eval()
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names
    ]
    bound = flat.forward

    def forward(**inputs: Tensor) -> dict[str, Tensor]:
        return bound(**inputs)

    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.forward = forward  # type: ignore[method-assign]
    return flat


def _name(model: ir.Model, inputs: Sequence[str], names: Sequence[str]) -> ir.Model:
    """Give the graph's inputs and outputs the names that PyTorch's have, in place."""
    import onnx_ir as ir

    graph = model.graph
    # An input that is an output as well comes back as `x_orig`, under neither of its names.
    absent = iter([name for name in inputs if name not in {v.name for v in graph.inputs}])
    for value in graph.inputs:
        if value.name not in inputs:
            value.name = next(absent, value.name)
    if len(graph.outputs) != len(names):
        raise ExportError(
            f"The graph has {len(graph.outputs)} outputs, PyTorch gives {len(names)}"
            f" ({', '.join(names)}).",
            hint="Return tensors only from forward(), each of them once.",
        )
    seen: set[int] = set()
    for index, name in enumerate(names):
        value = graph.outputs[index]
        # An input handed through, or one value under two names: each output needs its own.
        if value.is_graph_input() or value.is_initializer() or id(value) in seen:
            node = ir.node("Identity", [value], name=f"{name}/Identity")
            copy = node.outputs[0]
            copy.shape, copy.type = value.shape, value.type
            graph.append(node)
            graph.outputs[index] = value = copy
        seen.add(id(value))
        value.name = name
    return model
