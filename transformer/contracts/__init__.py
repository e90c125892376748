"""Contracts alone: what passes, backends, targets, data and runs agree on."""
