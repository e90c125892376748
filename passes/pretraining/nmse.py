"""The error of features against the teacher's, relative to how much those vary."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def nmse(features: Tensor, wanted: Tensor, variance: float | Tensor) -> Tensor:
    """Return the mean squared error of ``features`` over ``variance``, both tensors of one shape.

    Differences stay in the precision of the features and are added up in single: through copies in single precision,
    as ``mse_loss`` wants them of half-precision features, it takes four times as long.
    """
    return cast(Tensor, _SquaredDistance.apply(features, wanted)) / (variance * features.numel())


class _SquaredDistance(torch.autograd.Function):
    """The sum of squares of ``features - wanted``, in single precision at least; ``wanted`` gets no gradient."""

    @staticmethod
    def forward(context: Any, features: Tensor, wanted: Tensor) -> Tensor:
        difference = features - wanted
        context.save_for_backward(difference)
        context.kind = features.dtype
        kind = torch.promote_types(difference.dtype, torch.float32)
        length: Tensor = torch.linalg.vector_norm(difference, dtype=kind)
        return length.square()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (difference,) = context.saved_tensors
        return (difference * (2 * gradient).to(difference.dtype)).to(context.kind), None
