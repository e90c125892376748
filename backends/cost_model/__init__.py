"""Estimates of latency for devices that are absent: a roofline per kernel, fused as the runtime fuses."""
