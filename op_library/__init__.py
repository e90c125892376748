"""Replacement operations and the pools."""
