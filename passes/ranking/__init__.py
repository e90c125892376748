"""Whole networks of candidates, evaluated on held-out training images."""
