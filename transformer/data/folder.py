"""Folders of images, one sub-folder a class, as torchvision's ImageFolder and ImageNet are laid out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..contracts.data import Data, Sample
from ..errors import LoadError, UsageError
from .augmentation import CropFlip
from .classes import class_outputs
from .images import Normalization, Shape
from .pixels import DEFAULT, MODES, View, decode, fault
from .timm_augmentation import timm_images

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_PARTS = (("train",), ("val", "test"))
_NO_CLASS = "__MACOSX"
"""Folder that unpacking an archive of macOS leaves behind."""
USUAL: Shape = (3, 224, 224)
"""Shape of images for a network that does not say what it takes."""
KEPT_BYTES = 1 << 30
"""Largest data set that is kept in memory once decoded."""
_READ_BYTES = 4 << 30
"""Files up to this size together are read whole when they are checked; of more, beginnings and ends."""
BROKEN_SHARE = 0.001
"""Share of the images that may be broken: those are skipped, more are an error."""
_NAMED = 3


def imagefolder(
    root: Path,
    shape: Shape | None,
    normalization: Normalization,
    name: str,
    policy: str | None = None,
    *,
    view: View = DEFAULT,
    broken: float = BROKEN_SHARE,
    outputs: int | None = None,
    class_file: Path | None = None,
) -> Data:
    """Return ``root/train`` and ``root/val`` (or ``root/test``), resized and cropped to ``shape``.

    Args:
        root: the folder.
        shape: (C, H, W) of the network's input; ``USUAL`` if not known.
        normalization: of the pixels.
        name: what the data's name says of the pixels' treatment.
        policy: augmentation of timm that fine-tuning trains with; without, images are shifted and mirrored.
        view: which part of an image the network is shown.
        broken: share of the images that may be broken; they are skipped.
        outputs: classes that the network tells apart; None if not known.
        class_file: says which folder is which output of the network (see ``class_outputs``).

    Raises:
        UsageError: a folder is missing, empty, or the classes of the two parts or of the network differ.
        LoadError: more images are broken than may be.
    """
    shape = shape or USUAL
    if shape[0] not in MODES:
        raise UsageError(f"data imagefolder: the network takes {shape[0]} channels, images have 1 or 3")
    if not root.is_dir():
        raise UsageError(f"data imagefolder: no folder {root}")
    parts = [next((root / part for part in names if (root / part).is_dir()), None) for names in _PARTS]
    for found, names in zip(parts, _PARTS, strict=True):
        if found is None:
            raise UsageError(f"data imagefolder: {root} has no sub-folder {' or '.join(names)}")
    listed = [_listed(part) for part in parts if part is not None]
    if listed[0].keys() != listed[1].keys():
        differing = sorted(listed[0].keys() ^ listed[1].keys())
        raise UsageError(f"data imagefolder: class {differing[0]!r} is only in one of {parts[0]} and {parts[1]}")
    skipped, note = _skipped([file for part in listed for files in part.values() for file in files], broken)
    labels = class_outputs(root, tuple(listed[0]), outputs, class_file)
    train, test = (_images(part, skipped, labels, shape, normalization, view) for part in listed)
    text = f"imagefolder:{root.name}({len(train)}+{len(test)})?normalize={name}"
    notes = (note,) if note else ()
    if policy is not None:
        changed = timm_images(train.files, train.labels, shape, normalization, policy)
        return Data(train, test, text, changed=changed, notes=notes)
    augment = CropFlip(max(1, shape[1] // 8), fill=normalization.black(shape[0]))
    return Data(train, test, text, augment, notes=notes)


def _listed(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of every class; what begins with a dot, such as ``._1.jpg`` of macOS, is none."""
    classes = sorted(e.name for e in folder.iterdir() if e.is_dir() and e.name[0] != "." and e.name != _NO_CLASS)
    listed = {name: sorted(_files(folder / name)) for name in classes}
    for name, files in listed.items():
        if not files:
            raise UsageError(f"data imagefolder: no images in {folder / name}; expected {', '.join(sorted(_SUFFIXES))}")
    if not listed:
        raise UsageError(f"data imagefolder: no class folders in {folder}; expected {folder}/CLASS/*.jpg and the like")
    return listed


def _files(folder: Path) -> Iterable[Path]:
    for file in folder.rglob("*"):
        hidden = any(part[0] == "." for part in file.relative_to(folder).parts)
        dangling = file.is_symlink() and not file.exists()
        if file.suffix.lower() in _SUFFIXES and not hidden and (file.is_file() or dangling):
            yield file


def _skipped(files: Sequence[Path], share: float) -> tuple[frozenset[Path], str]:
    """Return the broken ones of ``files`` and a note about them.

    Raises:
        LoadError: they are more than ``share`` of all.
    """
    bytes_ = sum(file.stat().st_size for file in files if file.exists())
    check = partial(fault, thoroughly=bytes_ <= _READ_BYTES)
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        faults = {file: why for file, why in zip(files, pool.map(check, files), strict=True) if why}
    if not faults:
        return frozenset(), ""
    named = "; ".join(f"{file}: {why}" for file, why in list(faults.items())[:_NAMED])
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    count = f"{len(faults)} of {len(files):,} images"
    if len(faults) > share * len(files):
        least = 100 * len(faults) / len(files)
        raise LoadError(
            f"data imagefolder: {count} are broken, cannot read image {named}{more}; replace or delete it, "
            f"or skip what is broken with imagefolder:DIR?broken={least + 0.05:.1f}%"
        )
    return frozenset(faults), f"data: {count} are broken and skipped: {named}{more}"


def _images(
    part: Mapping[str, list[Path]],
    skipped: frozenset[Path],
    labels: Mapping[str, int],
    shape: Shape,
    normalization: Normalization,
    view: View,
) -> ImageFiles:
    rows = [(file, labels[name]) for name, files in part.items() for file in files if file not in skipped]
    return ImageFiles(
        tuple(file for file, _ in rows), torch.tensor([label for _, label in rows]), shape, normalization, view
    )


@dataclass(eq=False)
class ImageFiles(Dataset[Sample]):
    """Images on disk. A set of at most ``KEPT_BYTES`` is decoded once and kept as ``uint8``."""

    files: Sequence[Path]
    labels: Tensor
    """(N,): the network's output for each file."""
    shape: Shape
    normalization: Normalization
    view: View = DEFAULT
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
            found = torch.from_numpy(decode(self.files[index], self.shape, self.view))
            if self.fits_memory:
                self._kept[index] = found
        return found
