"""Whether data are what networks can be trained and tested on, told from a few samples before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ..contracts.data import Data
from ..contracts.task import Classification
from ..errors import HantError, LoadError, UsageError

_LOOKED_AT = 16
"""Samples of each part: the first few, and others spread evenly over it."""
_FIRST = 4
_LEAST = 4
"""Training samples: some to hold out, and two for a step of a batch norm."""


def check_data(data: Data) -> None:
    """Look at some samples of both parts.

    Raises:
        UsageError: a part is no data set, too small, or its samples are no (tensor (C, H, W), label) of one shape.
        LoadError: the data set itself fails.
    """
    shapes: dict[tuple[int, ...], str] = {}
    for part, dataset, least in (("train", data.train, _LEAST), ("test", data.test, 1)):
        total = _size(f"data {data.name}: {part}", dataset, least)
        for index in spread(total):
            image, label = sample(data, part, index)
            shapes.setdefault(tuple(image.shape), f"{part}[{index}]")
            if isinstance(data.task, Classification):
                _check_label(f"data {data.name}: the label of {part}[{index}]", label)
    if len(shapes) > 1:
        (one, first), (other, second) = list(shapes.items())[:2]
        raise UsageError(
            f"data {data.name}: images differ in size: {first} has {one}, {second} has {other}; "
            "resize or crop them to one shape (C, H, W)"
        )


def spread(total: int) -> list[int]:
    """Return the indices of the samples that are looked at: the first, the last, and some in between."""
    evenly = {round(place * (total - 1) / (_LOOKED_AT - 1)) for place in range(_LOOKED_AT)}
    return sorted(evenly | set(range(min(_FIRST, total))))


def sample(data: Data, part: str, index: int) -> tuple[Tensor, Any]:
    """Return a sample of ``train`` or ``test``.

    Raises:
        UsageError: it is no pair of a tensor (C, H, W) of numbers and a label.
        LoadError: the data set fails.
    """
    where = f"data {data.name}: {part}[{index}]"
    try:
        found = getattr(data, part)[index]
    except HantError:
        raise
    except Exception as error:
        raise LoadError(f"{where} failed: {type(error).__name__}: {_line(error)}; mend the data set") from error
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise UsageError(f"{where} is {_words(found)}, expected a pair (image, label); return image, label")
    image, label = found
    if not isinstance(image, Tensor):
        raise UsageError(
            f"{where} has an image of type {_kind(image)}, expected a float tensor (C, H, W); {_to_tensor(image)}"
        )
    if image.ndim != 3:
        batch = "; leave the batch dimension off" if image.ndim == 4 and len(image) == 1 else ""
        raise UsageError(f"{where} has an image of shape {tuple(image.shape)}, expected (C, H, W){batch}")
    if image.is_floating_point() and not bool(image.isfinite().all()):
        raise UsageError(f"{where} has an image with values that are no finite numbers; mend it or leave it out")
    return image, label


def label_range(data: Data) -> tuple[int, int]:
    """Return the least and the largest label of classification data: of all where they are kept, else of some."""
    return min(low for low, _ in _ranges(data)), max(high for _, high in _ranges(data))


def _ranges(data: Data) -> Iterator[tuple[int, int]]:
    for part, dataset in (("train", data.train), ("test", data.test)):
        labels = _kept_labels(dataset)
        if labels is None:
            labels = torch.tensor([int(sample(data, part, index)[1]) for index in spread(_size(part, dataset, 1))])
        yield int(labels.min()), int(labels.max())


def _kept_labels(dataset: Any) -> Tensor | None:
    """Return the labels (N,) that hant's, torch's and torchvision's data sets keep beside the images."""
    tensors = getattr(dataset, "tensors", ()) or (None,)
    for kept in (getattr(dataset, "labels", None), getattr(dataset, "targets", None), tensors[-1]):
        if isinstance(kept, Tensor | list) and len(kept) == len(dataset):
            try:
                labels = torch.as_tensor(kept)
            except (TypeError, ValueError, RuntimeError):  # words, or lists of several lengths
                continue
            if labels.ndim == 1 and not labels.is_floating_point():
                return labels
    return None


def _size(where: str, dataset: Any, least: int) -> int:
    if isinstance(dataset, DataLoader):
        raise UsageError(f"{where} is a DataLoader, expected the data set itself; give loader.dataset")
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise UsageError(
            f"{where} is {_words(dataset)}, which has no samples by index; expected a data set with __len__ and "
            "__getitem__: read a stream into a list first"
        )
    try:
        total = len(dataset)
    except Exception as error:
        raise UsageError(f"{where} does not say how many samples it has: {_line(error)}; give it __len__") from error
    if total < least:
        raise UsageError(f"{where} has {total} samples, expected at least {least}")
    return total


def _check_label(where: str, label: Any) -> None:
    """Refuse what is no whole number."""
    scalar = isinstance(label, Tensor) and label.ndim == 0
    if isinstance(label, Integral) or (scalar and not label.is_floating_point()):
        return
    if isinstance(label, Tensor):
        what = f"a tensor {tuple(label.shape)} of {str(label.dtype).removeprefix('torch.')}"
    else:
        what = f"{str(label)[:40]!r} ({_kind(label)})"
    if isinstance(label, Tensor | Sequence) and not isinstance(label, str) and len(label) > 1:
        advice = "return int(torch.as_tensor(label).argmax()) if it is one-hot"
    elif isinstance(label, str):
        advice = "return the place of its class among the network's outputs"
    else:
        advice = "return int(label)"
    raise UsageError(
        f"{where} is {what}, expected a whole number, the class; {advice}, or give hant.Data(task=...) "
        "where the network is no classifier"
    )


def _to_tensor(image: Any) -> str:
    if type(image).__module__.startswith("PIL"):
        return "end the transform with one to tensors, such as torchvision's ToTensor"
    return "return torch.as_tensor(image).float()"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        keys = ", ".join(str(key)[:20] for key in list(value)[:4])
        return f"a dictionary of {keys}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {_kind(value)}"


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__name__}"


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
