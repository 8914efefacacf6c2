"""Whether what was quantized is computed in integers: the engine's own graph is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from edgekit.core.errors import QuantizeError
from edgekit.core.lazy import require
from edgekit.graph.disk import raise_if_full
from edgekit.quantization.recipes import KeptFloat
from edgekit.runtime.engines.onnxruntime import import_onnxruntime

# Kernels that read 8-bit (or packed) weights as they are.
INTEGER_KERNELS = frozenset(
    {"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger", "QLinearMatMul", "QGemm",
     "QLinearConv", "ConvInteger", "MatMulNBits"}
)  # fmt: skip
_QUIET = 4


def audit(
    path: Path, weights: Mapping[str, Collection[str]], *, signed: bool = False
) -> tuple[dict[str, int], tuple[KeptFloat, ...]]:
    """(how often each integer kernel stands in the engine's graph, nodes that reached none).

    Args:
        path: the candidate.
        weights: by the name of each integer weight the nodes that were to use it.
        signed: activations are signed, for processors whose kernels take them.

    Raises QuantizeError when ONNX Runtime does not take the graph.
    """
    ort = import_onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.intra_op_num_threads = 1
    # Beyond this level only layouts change.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    entries = {
        "session.disable_prepacking": "1",
        "session.optimized_model_external_initializers_file_name": "audit.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    }
    if signed:
        entries["session.qdqisint8allowed"] = "1"
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    with tempfile.TemporaryDirectory(prefix=".audit-", dir=path.parent) as folder:
        target = Path(folder) / "audit.onnx"
        settings.optimized_model_filepath = str(target)
        try:
            ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise_if_full(path.parent)
            raise QuantizeError(
                f"ONNX Runtime does not take the quantized graph: {error}.",
                hint="This is a bug; please report it.",
            ) from error
        model = require("onnx", "build").load(str(target), load_external_data=False)
    kernels: dict[str, int] = {}
    reached: set[str] = set()
    for node in model.graph.node:
        if node.op_type in INTEGER_KERNELS:
            kernels[node.op_type] = kernels.get(node.op_type, 0) + 1
            reached.update(node.input)
    left = tuple(
        KeptFloat(node, "ONNX Runtime has no 8-bit kernel for it here, and computes in float")
        for weight, nodes in weights.items()
        if weight not in reached
        for node in nodes
    )
    return dict(sorted(kernels.items())), left
