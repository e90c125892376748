"""PyTorch as a runtime: eager or compiled."""
