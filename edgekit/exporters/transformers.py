"""The one place that knows `transformers.exporters`, an experimental API pinned in pyproject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.exporters.tracing import tracing
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor, nn


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
        config = OnnxConfig(dynamic_shapes=shapes, opset_version=opset)
        with tracing(type(getattr(module, "model", module)).__name__):
            # The exporter changes the mapping it is given.
            exported = OnnxExporter().export(module, dict(sample), config=config)
        program: ir.Model = exported.program
        return program
