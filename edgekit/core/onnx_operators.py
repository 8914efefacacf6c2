"""Operators of ONNX and ONNX Runtime that compute with, or store, fewer bits than floats have."""

from __future__ import annotations

from collections.abc import Mapping

#: Operators of eight bits; those whose names begin with `INT8_BEGINNING` are besides.
INT8 = frozenset(
    {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
        "MatMulIntegerToFloat", "ConvInteger", "ConvIntegerToFloat", "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM", "QGemm", "QAttention", "QEmbedLayerNormalization", "QOrderedMatMul",
    }
)  # fmt: skip
#: QLinearMatMul, QLinearConv, QLinearAdd…
INT8_BEGINNING = "QLinear"
#: Operators with weights in blocks, and the attribute that says of how many bits, 4 without it.
BLOCKWISE: Mapping[str, str | None] = {
    "MatMulNBits": "bits", "GatherBlockQuantized": "bits", "QMoE": "expert_weight_bits",
    "MatMulBnb4": None,
}  # fmt: skip
