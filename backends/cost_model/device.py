"""What the estimate needs to know of a device: the facts of a target file."""

from __future__ import annotations

from dataclasses import dataclass

from ...transformer.contracts.target import Target
from ...transformer.errors import UsageError

_RATES = {"fp32": "fp32_tflops", "fp16": "fp16_tflops", "bf16": "fp16_tflops", "int8": "int8_tops"}
_SUSTAINED = 0.83
"""Share of the data sheet's bandwidth that can be had, where the file does not say: that of the V100 (750 of 900
GB/s: Jia et al., Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking, arXiv 1804.06826)."""


@dataclass(frozen=True)
class Device:
    """A GPU as the cost model sees it, at one precision."""

    product_rate: float
    """Floating-point or integer operations per second of the matrix units; vector units where it has no others."""
    vector_rate: float
    """Floating-point operations per second of the vector units, FP32."""
    bandwidth: float
    """Bytes per second that memory can sustain."""
    processors: int
    """Streaming multiprocessors: tiles of a product that are computed at the same time."""
    product_bytes: int
    """Of one value that goes in or out of a product."""
    other_bytes: int
    """Of one value elsewhere; INT8 networks keep FP16 between products."""


def device_of(target: Target) -> Device:
    """Return the device of a target.

    Raises:
        UsageError: its file lacks a fact; the message names it.
    """
    rate = _RATES.get(target.precision)
    if rate is None:
        raise UsageError(f"target {target.name}: no estimate for {target.precision}; there is for {', '.join(_RATES)}")
    if target.device != "cuda":
        raise UsageError(f"target {target.name}: there are estimates for GPUs only, and its device is {target.device}")
    bandwidth = target.facts.get("sustained_gb_s") or _SUSTAINED * _fact(target, "bandwidth_gb_s")
    size = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[target.precision]
    return Device(
        product_rate=1e12 * _fact(target, rate),
        vector_rate=1e12 * _fact(target, "fp32_tflops"),
        bandwidth=1e9 * float(bandwidth),
        processors=int(_fact(target, "processors")),
        product_bytes=size,
        other_bytes=max(size, 2),
    )


def _fact(target: Target, name: str) -> float:
    value = target.facts.get(name)
    if not isinstance(value, int | float) or value <= 0:
        found = "missing" if value is None else repr(value)
        raise UsageError(
            f"target {target.name}: fact {name} is {found}; give a number above zero under [facts] to have estimates"
        )
    return float(value)
