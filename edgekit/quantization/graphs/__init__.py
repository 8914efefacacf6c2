"""Quantization of ONNX graphs: what can be, how its numbers are found, how it is written."""
