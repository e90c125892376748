"""The command ``hant-opt``."""
