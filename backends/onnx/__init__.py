"""From modules to ONNX graphs, for every runtime that reads ONNX."""
