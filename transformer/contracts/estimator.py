"""A backend's guess at latencies on a device that is not here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Estimator:
    """Estimates for one target. They are never mixed with measurements."""

    ms: Callable[[nn.Module, Sequence[Tensor]], float]
    """Return the latency (ms) of one call of a module on inputs of these shapes; raise CaptureError where none can be
    given. Nothing is computed."""
    provenance: dict[str, str]
    """What an estimate is made from: the absent device, the model, where its constants come from."""
    error: float
    """Median error (share) on published networks of kinds that the constants were not fitted on."""
