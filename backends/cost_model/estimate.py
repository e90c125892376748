"""The latency of a network on a device that is not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from ...transformer.contracts.backend import Estimator
from ...transformer.contracts.target import Target
from ..options import asked
from .constants import constants
from .device import device_of
from .fuse import EAGER, TENSORRT, Fusion, fuse
from .kernel import Kernel
from .roofline import columns, network_ms
from .walk import walk

Runtime = Literal["pytorch", "tensorrt"]
_FUSION: dict[Runtime, Fusion] = {"pytorch": EAGER, "tensorrt": TENSORRT}


def estimator(target: Target, runtime: Runtime) -> Estimator:
    """Return what estimates latencies of ``target``, which need not be here.

    Raises:
        UsageError: the target's file lacks a fact of the device.
    """
    device, fitted = device_of(target), constants(runtime)

    def ms(module: nn.Module, inputs: Sequence[Tensor]) -> float:
        return network_ms(columns(kernels(module, inputs, _FUSION[runtime])), device, fitted)

    provenance = {
        "device": f"{target.facts.get('device_name', 'unknown')}, absent",
        "runtime": f"cost model of {runtime}",
        "source": f"fitted on {fitted.source}",
        **asked(target),
    }
    return Estimator(ms, provenance, fitted.median_error)


def kernels(module: nn.Module, inputs: Sequence[Tensor], fusion: Fusion) -> tuple[Kernel, ...]:
    """Return the kernels that a runtime makes of ``module`` in eval mode, in order.

    Raises:
        CaptureError: the module decides on values.
    """
    return fuse(*walk(module, inputs), fusion)
