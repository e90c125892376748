"""Folders of images, one sub-folder a class, as torchvision's ImageFolder and ImageNet are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import LoadError, MissingExtraError, UsageError
from .data import Data, Sample
from .data_augment import CropFlip
from .data_images import Normalization, Shape
from .data_timm import timm_images

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_MODES = {1: "L", 3: "RGB"}
_CROP = 0.875
"""Share of the shorter side that is looked at, for inputs of 128 pixels and more (ImageNet's usual evaluation)."""
KEPT_BYTES = 1 << 30
"""Largest data set that is kept in memory once decoded."""


def imagefolder(
    root: Path, shape: Shape | None, normalization: Normalization, name: str, policy: str | None = None
) -> Data:
    """Return ``root/train`` and ``root/val`` (or ``root/test``), resized and cropped to ``shape``.

    ``policy`` is the augmentation of timm that fine-tuning trains with; without, images are shifted and mirrored.

    Raises:
        UsageError: a folder is missing, empty, or the classes of the two parts differ.
    """
    shape = shape or (3, 224, 224)
    if shape[0] not in _MODES:
        raise UsageError(f"data imagefolder: the network takes {shape[0]} channels, images have 1 or 3")
    if not root.is_dir():
        raise UsageError(f"data imagefolder: no folder {root}")
    parts = [next((root / part for part in names if (root / part).is_dir()), None) for names in _PARTS]
    for found, names in zip(parts, _PARTS, strict=True):
        if found is None:
            raise UsageError(f"data imagefolder: {root} has no sub-folder {' or '.join(names)}")
    train, test = (_listed(part, shape, normalization) for part in parts if part is not None)
    if train.classes != test.classes:
        differing = sorted(set(train.classes) ^ set(test.classes))
        raise UsageError(f"data imagefolder: class {differing[0]!r} is only in one of {parts[0]} and {parts[1]}")
    text = f"imagefolder:{root.name}({len(train)}+{len(test)})?normalize={name}"
    if policy is not None:
        changed = timm_images(train.files, train.labels, shape, normalization, policy)
        return Data(train, test, text, changed=changed)
    augment = CropFlip(max(1, shape[1] // 8), fill=normalization.black(shape[0]))
    return Data(train, test, text, augment)


_PARTS = (("train",), ("val", "test"))


def _listed(folder: Path, shape: Shape, normalization: Normalization) -> ImageFiles:
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(f for f in (folder / name).rglob("*") if f.suffix.lower() in _SUFFIXES)
        if not found:
            raise UsageError(f"data imagefolder: no images in {folder / name}; expected {', '.join(sorted(_SUFFIXES))}")
        files += found
        labels += [label] * len(found)
    if not files:
        raise UsageError(f"data imagefolder: no class folders in {folder}; expected {folder}/CLASS/*.jpg and the like")
    return ImageFiles(tuple(files), torch.tensor(labels), classes, shape, normalization)


@dataclass(eq=False)
class ImageFiles(Dataset[Sample]):
    """Images on disk. A set of at most ``KEPT_BYTES`` is decoded once and kept as ``uint8``."""

    files: Sequence[Path]
    labels: Tensor
    classes: tuple[str, ...]
    shape: Shape
    normalization: Normalization
    _kept: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        images, labels = self.gather(torch.tensor([index]))
        return images[0], int(labels[0])

    @property
    def fits_memory(self) -> bool:
        """Whether decoded images are kept."""
        return len(self.files) * int(np.prod(self.shape)) <= KEPT_BYTES

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images (N, C, H, W), ready for the network, and labels (N,) of ``indices``."""
        images = torch.stack([self._pixels(index) for index in indices.tolist()])
        return self.normalization(images), self.labels[indices]

    def _pixels(self, index: int) -> Tensor:
        found = self._kept.get(index)
        if found is None:
            found = torch.from_numpy(decode(self.files[index], self.shape))
            if self.fits_memory:
                self._kept[index] = found
        return found


def decode(file: Path, shape: Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the image as ``uint8`` (C, H, W): the shorter side resized, then the centre cut out."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError("pillow", "dev", "reading images") from error
    channels, height, width = shape
    try:
        with Image.open(file) as opened:
            image = opened.convert(_MODES[channels])
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise LoadError(f"data imagefolder: cannot read image {file}: {error}; replace or delete it") from error
    share = _CROP if min(height, width) >= 128 else 1.0
    factor = max(height / image.height, width / image.width) / share
    size = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    pixels = np.array(image.crop((left, top, left + width, top + height)), dtype=np.uint8)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1).copy()
