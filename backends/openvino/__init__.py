"""OpenVINO: lower to ONNX, compile for the processor, run, time."""
