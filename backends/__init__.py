"""Runtimes: can it, lower, run."""
