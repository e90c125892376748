"""The handwritten digits that scikit-learn ships: small, real, and there without a download."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts.data import Data
from .augmentation import Affine
from .images import ImageTensors, Shape

DIGITS_MEAN, DIGITS_STD = 0.3058, 0.3238
"""Of the training part at 32x32, in units of 0..1."""
_TEST_SHARE = 0.2


def digits(shape: Shape = (1, 32, 32)) -> Data:
    """Return the 1,797 digits, resized from 8x8 to ``shape`` (C, H, W) and normalised.

    One fifth of every class is for testing; a fixed seed decides which, so the parts are the same everywhere.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(raw.images).float().unsqueeze(1) / 16  # pyright: ignore[reportAttributeAccessIssue]
    labels = torch.from_numpy(raw.target).long()  # pyright: ignore[reportAttributeAccessIssue]
    images = F.interpolate(images, size=shape[1:], mode="bilinear", align_corners=False)
    images = ((images - DIGITS_MEAN) / DIGITS_STD).expand(-1, shape[0], -1, -1).contiguous()
    test = _stratified(labels, _TEST_SHARE)
    return Data(
        train=ImageTensors(images[~test], labels[~test]),
        test=ImageTensors(images[test], labels[test]),
        name="digits",
        augment=Affine(fill=-DIGITS_MEAN / DIGITS_STD),
    )


def _stratified(labels: Tensor, share: float) -> Tensor:
    """Return a mask (N,) that is true for ``share`` of every class, always the same."""
    generator = torch.Generator().manual_seed(1797)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        members = torch.nonzero(labels == label).flatten()
        order = torch.randperm(len(members), generator=generator)
        chosen[members[order[: round(share * len(members))]]] = True
    return chosen
