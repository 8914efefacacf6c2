"""Gives the weights' memory back once the graph that was made of them is on disk."""

from __future__ import annotations

import gc

import onnx_ir as ir
from torch import Tensor, nn


def release_weights(model: ir.Model, module: nn.Module) -> None:
    """Let go of everything that keeps `module`'s weights alive besides `module` itself.

    The graph cannot be used any more. Dropping it is not enough: onnxscript's rewrite rules are
    global objects that remember the last graph they matched (seen with 0.7.2), and with it each
    parameter, folded or not. So every value that lies over these weights is found and emptied.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            value.const_value = None
        graph.initializers.clear()
    own = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}
    for found in gc.get_objects():
        # isinstance would ask lazy proxies of other libraries for their class, and wake them.
        if issubclass(type(found), ir.Value):
            raw = getattr(found.const_value, "raw", None)
            if isinstance(raw, Tensor) and raw.untyped_storage().data_ptr() in own:
                found.const_value = None
    gc.collect()
