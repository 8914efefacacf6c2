"""The one place that knows `transformers.exporters`, an experimental API pinned in pyproject."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.exporters.tracing import tracing
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor, nn

# What stands for a dot in the name of an input while it is a Python parameter.
_DOT = "_DOT_"


def trace_pretrained(
    module: nn.Module,
    sample: Mapping[str, Tensor],
    dynamic: Mapping[str, Sequence[int]],
    *,
    opset: int,
) -> ir.Model:
    """The ONNX graph of a module around a transformers model, its weights still PyTorch's.

    `dynamic` lists per input the axes that vary. The sample must hold padding: an all-ones mask
    disappears from the graph. Raises ExportError with what the exporter said (see `tracing`).
    """
    with quiet():
        import torch
        from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

        # AUTO on the axes that vary, and nothing elsewhere: marking all of them is many times
        # slower, and names are refused by torch.export without a maximum.
        shapes = {
            name: dict.fromkeys(dynamic.get(name, ()), torch.export.Dim.AUTO) for name in sample
        }
        spelt = {name: name.replace(".", _DOT) for name in sample}
        config = OnnxConfig(
            dynamic_shapes={spelt[name]: shape for name, shape in shapes.items()},
            opset_version=opset,
        )
        with tracing(type(getattr(module, "model", module)).__name__), _dotted(module):
            # The exporter changes the mapping it is given.
            exported = OnnxExporter().export(
                module, {spelt[name]: value for name, value in sample.items()}, config=config
            )
        program: ir.Model = exported.program
        for value in program.graph.inputs:
            value.name = (value.name or "").replace(_DOT, ".")
        return program


@contextlib.contextmanager
def _dotted(module: nn.Module) -> Iterator[None]:
    """Let forward() be called with names that have no dots: the exporter makes parameters of them.

    The forward of a module is looked up on itself first, where this one is put.
    """
    forward = module.forward

    def called(**inputs: Tensor) -> object:
        return forward(**{name.replace(_DOT, "."): value for name, value in inputs.items()})

    module.forward = called
    try:
        yield
    finally:
        del module.forward
