"""ONNX Runtime: lower to ONNX, run, time."""
