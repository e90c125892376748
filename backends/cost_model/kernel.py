"""What one kernel of a device does: products, and values moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """Kernels of one kind use a device equally well."""

    PRODUCT = "product"
    """Dense and grouped convolutions, matrix products, attention: matrix units, tile by tile."""
    DEPTHWISE = "depthwise"
    """Convolutions of each channel with itself: vector units."""
    MOVE = "move"
    """Everything else: an output value is made from a few inputs, so only memory counts."""
    REDUCE = "reduce"
    """Means, sums, norms over a tensor, pooling: as above, and one value waits for many."""


@dataclass(frozen=True)
class Kernel:
    """One launch. A product is ``groups`` matrix products (rows, depth) x (depth, columns)."""

    name: str
    """Operations in it, such as ``convolution+native_batch_norm+relu_``."""
    kind: Kind
    read: int
    """Values read that depend on the batch."""
    written: int
    """Values written."""
    weights: int = 0
    """Values read that do not depend on the batch."""
    rows: int = 0
    """Output positions of all images."""
    columns: int = 0
    """Output channels of one group."""
    depth: int = 0
    """Products that are summed for one output value."""
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.groups * self.rows * self.columns * self.depth

    def scaled(self, batch: int) -> Kernel:
        """Return the kernel for ``batch`` times as many images."""
        many = replace(self, read=self.read * batch, written=self.written * batch)
        if self.kind is Kind.PRODUCT and not self.weights:  # of two activations: each image has its own product
            return replace(many, groups=self.groups * batch)
        return replace(many, rows=self.rows * batch)
