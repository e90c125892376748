"""The order of the passes and the Python entry points."""
