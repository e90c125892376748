"""What tells one data set from another: sizes, labels, and how some of the images look."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ..tools.nested import map_leaves
from .folder import ImageFiles
from .images import ImageTensors, size

_SAMPLES = 16
"""Samples that are looked at in each part, evenly spread."""
_CHANNELS = 4
"""Channels of an image that are looked at, at most."""
_TOLERANCE = 0.02
"""Difference of a mean that still counts as equal, in units of the largest one above 1: decoders of JPEG differ."""

Look = tuple[float, ...]
"""Means of the quarters of an image, channel by channel; empty where the image is another each time it is read."""


@dataclass(frozen=True)
class Content:
    """What some data hold. Reading them twice gives equal contents, on another machine nearly equal ones."""

    digest: str
    """Hash of the sizes of both parts, of all labels and file names where they are known, of some labels else."""
    looks: tuple[Look, ...]
    """Of some images."""


def content_of(*parts: Dataset[Any]) -> Content:
    """Return what the data sets hold. Samples that cannot be read say nothing; whoever uses them will tell."""
    total, looks = hashlib.sha256(), list[Look]()
    for part in parts:
        samples = [_sample(part, index) for index in _spread(_size(part))]
        looks += [look for _, look in samples]
        for text in (str(_size(part)), *(_labels(part) or (label for label, _ in samples))):
            total.update(f"{text};".encode())
    return Content(total.hexdigest()[:16], tuple(looks))


def alike(ours: tuple[Look, ...], theirs: tuple[Look, ...]) -> bool:
    """Return whether images look the same, as far as both are known."""
    if len(ours) != len(theirs):
        return False
    return all(_close(a, b) for a, b in zip(ours, theirs, strict=True) if a and b)


def _close(ours: Look, theirs: Look) -> bool:
    if len(ours) != len(theirs):
        return False
    scale = max([1.0, *(abs(value) for value in theirs)])
    return all(abs(a - b) <= _TOLERANCE * scale for a, b in zip(ours, theirs, strict=True))


def _labels(part: Dataset[Any]) -> list[str]:
    """Return what a data set says of all its labels at once; empty where only its samples tell."""
    if isinstance(part, ImageFiles):
        return [*(Path(file).name for file in part.files), _text(part.labels)]
    if isinstance(part, ImageTensors):
        return [_text(part.labels)]
    if isinstance(part, TensorDataset) and len(part.tensors) == 2:
        return [_text(part.tensors[1])]
    return []


def _size(part: Dataset[Any]) -> int:
    try:
        return size(part)
    except Exception:  # a data set of the user's, without a size or with a broken one
        return 0


def _spread(total: int) -> list[int]:
    count = min(total, _SAMPLES)
    return [round(place * (total - 1) / max(1, count - 1)) for place in range(count)]


def _sample(part: Dataset[Any], index: int) -> tuple[str, Look]:
    """Return label and look of a sample; what differs from one reading to the next is left out."""
    first, second = _read(part, index), _read(part, index)
    label = first[0] if first[0] == second[0] else "random"
    return label, first[1] if _close(first[1], second[1]) else ()


def _read(part: Dataset[Any], index: int) -> tuple[str, Look]:
    try:
        image, label = part[index]
        return _text(label), _look(image)
    except Exception:  # the user's code, which may do anything
        return "unreadable", ()


def _look(image: Tensor) -> Look:
    values = image.detach().cpu().float()
    if values.ndim == 3:
        means = torch.nn.functional.adaptive_avg_pool2d(values[:_CHANNELS], 2).flatten()
    else:
        means = torch.stack([piece.mean() for piece in values.flatten().chunk(4)])
    return tuple(round(value, 4) for value in means.tolist()) if bool(means.isfinite().all()) else ()


def _text(label: Any) -> str:
    """Return labels, or the label of a sample, as text: numbers, tensors, and nests of them."""
    return str(map_leaves(label, _leaf))


def _leaf(value: Any) -> str:
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        return f"{tuple(value.shape)} {hashlib.sha256(data).hexdigest()}"
    return str(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__
