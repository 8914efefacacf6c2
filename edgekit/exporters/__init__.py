"""PyTorch to ONNX: tracing, the declarative processor, and the proof that both say the same."""
