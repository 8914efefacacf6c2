"""Helpers on ONNX and OpenVINO graphs that more than one step uses."""
