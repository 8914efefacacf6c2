"""A decoder's ONNX graph as ONNX Runtime runs it best: its cache in buffers, fewer nodes."""
