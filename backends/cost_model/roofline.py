"""The time of kernels on a device: arithmetic or memory, whichever takes longer, plus a fixed time.

Roofline: Williams et al., CACM 52(4), 2009. To it comes what GPUs add: products run tile by tile, and tiles in waves
over the processors, so the last wave may be nearly empty (GENet section 3.2 and figure 2a: small batches do not fill a
GPU).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .constants import Constants
from .device import Device
from .kernel import Kernel, Kind

Floats = NDArray[np.float64]
TILES = ((256, 128), (128, 128), (128, 64), (64, 64), (128, 32), (64, 32))
"""(rows, columns) of the output that one processor makes at a time; the library takes the fastest."""
_ALIGNED = {1: 32, 2: 8, 4: 1}
"""Bytes of a value -> depth is filled up to a multiple of this for the matrix units."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Kernels as columns, one value each (K,)."""

    kinds: Mapping[Kind, NDArray[np.bool_]]
    values: Floats
    """Values moved: read, written, weights."""
    rows: Floats
    columns: Floats
    depth: Floats
    groups: Floats


def columns(kernels: Sequence[Kernel]) -> Columns:
    """Return kernels as columns."""
    numbers = [(k.read + k.written + k.weights, k.rows, k.columns, k.depth, k.groups) for k in kernels]
    kinds = {kind: np.array([kernel.kind is kind for kernel in kernels], dtype=bool) for kind in Kind}
    return Columns(kinds, *np.array(numbers, dtype=np.float64).reshape(-1, 5).T)


def network_ms(kernels: Columns, device: Device, constants: Constants) -> float:
    """Return the latency (ms) of kernels that run one after the other.

    The host starts them ahead of the device: a kernel begins when the one before has ended and it has been started.
    """
    times = kernel_ms(kernels, device, constants)
    issued = constants.issue_us / 1e3 * np.arange(1, len(times) + 1)
    remaining = np.cumsum(times[::-1])[::-1]  # of each kernel and those after it
    return float((issued + remaining).max(initial=0.0))


def kernel_ms(kernels: Columns, device: Device, constants: Constants) -> Floats:
    """Return the time (ms) that the device spends in each kernel (K,)."""
    product, depthwise = kernels.kinds[Kind.PRODUCT], kernels.kinds[Kind.DEPTHWISE]
    macs = kernels.groups * kernels.rows * kernels.columns * kernels.depth
    arithmetic = np.where(depthwise, 2 * macs / (constants.depthwise * device.vector_rate), 0.0)
    arithmetic = np.where(product, _product_seconds(kernels, device, constants), arithmetic)
    seconds = np.maximum(arithmetic, _memory_seconds(kernels, device, constants))
    return np.asarray(1e3 * seconds + constants.kernel_us / 1e3)


def _product_seconds(kernels: Columns, device: Device, constants: Constants) -> Floats:
    """Return how long the arithmetic takes if each kernel is a product: with the fastest tile, in whole waves."""
    aligned = _ALIGNED[device.product_bytes]
    steps = np.ceil(kernels.depth / aligned) * aligned + constants.start
    fastest = np.full(len(steps), np.inf)
    for high, wide in TILES:
        tiles = kernels.groups * np.ceil(kernels.rows / high) * np.ceil(kernels.columns / wide)
        reuse = high * wide / (high + wide)
        rate = constants.product * device.product_rate / device.processors * reuse / (reuse + constants.reuse)
        waves = np.ceil(tiles / device.processors)
        fastest = np.minimum(fastest, waves * 2 * high * wide * steps / rate)
    return fastest


def _memory_seconds(kernels: Columns, device: Device, constants: Constants) -> Floats:
    """Return how long the values take from and to memory."""
    per_value = np.zeros(len(kernels.values))
    for kind, where in kernels.kinds.items():
        size = device.product_bytes if kind in (Kind.PRODUCT, Kind.DEPTHWISE) else device.other_bytes
        per_value[where] = size / (constants.memory_share(kind) * device.bandwidth)
    return np.asarray(kernels.values * per_value)
