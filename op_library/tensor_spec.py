"""The shape contract of a tensor at a block's border."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Layout(StrEnum):
    """What the dimensions of a tensor mean."""

    NCHW = "nchw"
    """A feature map (N, C, H, W)."""
    TOKENS = "tokens"
    """A sequence (N, L, C)."""
    NHWC = "nhwc"
    """A channels-last feature map (N, H, W, C)."""
    FLAT = "flat"
    """Anything else, such as logits (N, C)."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape, type and layout of a tensor, the batch left open.

    Dimension 0 holds ``batch`` x B rows for a network input of B samples; ``shape`` is the rest.
    """

    shape: tuple[int, ...]
    """Sizes of dimensions 1 and up, e.g. (C, H, W)."""
    dtype: str = "float32"
    """torch dtype without its prefix."""
    layout: Layout = Layout.NCHW
    batch: int = 1
    """Rows of dimension 0 per sample of the network's input (windows and patches folded in)."""

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.shape[0] if self.layout is Layout.NCHW else self.shape[-1]

    @property
    def spatial(self) -> tuple[int, ...]:
        """Sizes of the dimensions that are not channels: (H, W) or (L,)."""
        return self.shape[1:] if self.layout is Layout.NCHW else self.shape[:-1]

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch's object."""
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    def random(self, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Return a standard-normal tensor of ``batch * samples`` rows."""
        rows = self.batch * samples
        return torch.randn(rows, *self.shape, generator=generator).to(self.torch_dtype)

    def __str__(self) -> str:
        """Short form such as ``16x32x32`` or ``2*196x64 tokens float16``."""
        text = "x".join(map(str, self.shape)) or "scalar"
        if self.batch != 1:
            text = f"{self.batch}*{text}"
        if self.layout is not Layout.NCHW:
            text += f" {self.layout}"
        return text if self.dtype == "float32" else f"{text} {self.dtype}"
