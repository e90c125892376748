"""Training images changed by timm's recipes: random crops, RandAugment and AutoAugment policies, random erasing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..contracts.data import Sample
from ..errors import MissingExtraError, UsageError
from ..tools.seeds import derived_seed
from .images import Normalization, Shape
from .pixels import read_image

_ERASE = 0.2
"""Share of the images of which a part is erased, as in timm's recipes for EfficientNets."""


@dataclass(frozen=True, eq=False)
class TimmImages:
    """Makes the training set of an epoch: the same images in the same order, each changed anew."""

    files: Sequence[Path]
    labels: Tensor
    transform: Callable[[Any], Tensor]
    channels: int

    def __call__(self, seed: int) -> Dataset[Sample]:
        """Return the data set; the seed and an image's index alone decide how the image is changed."""
        return _Epoch(self, seed)


@dataclass(frozen=True, eq=False)
class _Epoch(Dataset[Sample]):
    images: TimmImages
    seed: int

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.images.files[index], self.images.channels)
        with _seeded(derived_seed(self.seed, str(index)) % 2**31):
            return self.images.transform(image), int(self.images.labels[index])


def timm_images(
    files: Sequence[Path], labels: Tensor, shape: Shape, normalization: Normalization, policy: str
) -> TimmImages:
    """Return images changed by timm's transform for training.

    Args:
        files: of the training set.
        labels: theirs, shape (N,).
        shape: (C, H, W) of the network's input.
        normalization: of the pixels.
        policy: timm's name of one, such as ``rand-m9-mstd0.5-inc1``; ``none`` only crops, mirrors and erases.

    Raises:
        MissingExtraError: timm is not installed.
        UsageError: timm does not know the policy.
    """
    try:
        from timm.data import create_transform  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise MissingExtraError("timm", "timm", "augmentation as in timm's recipes") from error
    try:
        transform = create_transform(
            shape,
            is_training=True,
            auto_augment=None if policy == "none" else policy,
            interpolation="bicubic",
            mean=normalization.mean or (0.0,) * shape[0],
            std=normalization.std or (1.0,) * shape[0],
            re_prob=_ERASE,
        )
    except (AssertionError, ValueError, KeyError) as error:
        raise UsageError(
            f"data imagefolder: timm does not know augmentation {policy!r}; expected one such as rand-m9-mstd0.5, "
            "augmix-m5-w4-d2, original or none"
        ) from error
    return TimmImages(files, labels, cast("Callable[[Any], Tensor]", transform), shape[0])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let everything that timm draws from begin at ``seed``; put it back at the end."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
