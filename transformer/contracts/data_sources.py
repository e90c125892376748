"""Where data comes from: the embedded digits, folders of images, and functions of the user."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageError, nearest
from .data import Data
from .data_augment import Affine
from .data_images import ImageTensors

Shape = tuple[int, int, int]
DIGITS_MEAN, DIGITS_STD = 0.3058, 0.3238
"""Of the training part of ``digits`` at 32x32, in units of 0..1."""
_DIGITS_TEST_SHARE = 0.2


def load_data(spec: str, input_shape: Shape | None = None) -> Data:
    """Return the data that ``spec`` names; see the table in docs/data.md.

    Raises:
        UsageError: the specification or what it points to is not usable; one line that says why.
    """
    name, _, rest = spec.partition(":")
    if name == "digits" and not rest:
        return digits(input_shape or (1, 32, 32))
    raise UsageError(f"unknown data {spec!r}{nearest(name, ['digits', 'cifar10:DIR'])}")


def digits(shape: Shape = (1, 32, 32)) -> Data:
    """Return the 1,797 handwritten digits that scikit-learn ships, as ``shape`` (C, H, W).

    One fifth of every class is for testing; a fixed seed decides which, so the parts are the same everywhere.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(raw.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(raw.target).long()
    images = F.interpolate(images, size=shape[1:], mode="bilinear", align_corners=False)
    images = ((images - DIGITS_MEAN) / DIGITS_STD).expand(-1, shape[0], -1, -1).contiguous()
    test = _stratified(labels, _DIGITS_TEST_SHARE)
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
    for label in torch.unique(labels):
        members = torch.nonzero(labels == label).flatten()
        order = torch.randperm(len(members), generator=generator)
        chosen[members[order[: round(share * len(members))]]] = True
    return chosen
