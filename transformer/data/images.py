"""Images held in memory and the batches that are cut from any data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from ..contracts.data import Sample
from ..contracts.task import to_device
from ..errors import HantError, LoadError, UsageError
from ..tools.own_words import own_words

Shape = tuple[int, int, int]
"""(C, H, W)."""


@dataclass(frozen=True)
class Normalization:
    """Makes ``uint8`` pixels ready for a network: scaled to 0..1, then (x - mean) / std of each channel."""

    mean: tuple[float, ...] = ()
    """Of each channel; empty where nothing is subtracted."""
    std: tuple[float, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """Return (N, C, H, W) as float32; floating-point images are ready and returned as they are."""
        if images.dtype != torch.uint8:
            return images
        images = images.float().div_(255)
        if self.mean:
            mean, std = (self._channels(values, images.shape[1]) for values in (self.mean, self.std))
            shift, scale = (torch.tensor(values, device=images.device).view(1, -1, 1, 1) for values in (mean, std))
            images.sub_(shift).div_(scale)
        return images

    def black(self, channels: int) -> tuple[float, ...]:
        """Return what a black pixel becomes, for each channel."""
        if not self.mean:
            return (0.0,) * channels
        mean, std = self._channels(self.mean, channels), self._channels(self.std, channels)
        return tuple(-m / s for m, s in zip(mean, std, strict=True))

    @staticmethod
    def _channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
        """Return one value a channel; grey images take the mean of the colours' values."""
        return values if len(values) == channels else (sum(values) / len(values),) * channels


@dataclass(frozen=True, eq=False)
class ImageTensors(Dataset[Sample]):
    """A data set in memory."""

    images: Tensor
    """(N, C, H, W): ``uint8`` 0..255, or floating point that is ready for the network."""
    labels: Tensor
    """(N,) int64."""
    normalization: Normalization = Normalization()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        images, labels = self.gather(torch.tensor([index]))
        return images[0], int(labels[0])

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images (N, C, H, W), ready for the network, and labels (N,) of ``indices``."""
        return self.normalization(self.images[indices]), self.labels[indices]


@runtime_checkable
class Gathers(Protocol):
    """A data set that hands out many samples at once, faster than one by one."""

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W) and labels (N,) of ``indices``."""
        ...


def size(dataset: Dataset[Sample]) -> int:
    """Return the number of samples."""
    return len(cast(Any, dataset))


def shuffled(total: int, seed: int, epoch: int) -> Tensor:
    """Return the order of ``total`` samples in an epoch; seed and epoch alone decide it."""
    return torch.randperm(total, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63))


def batches(
    dataset: Dataset[Sample],
    batch_size: int,
    order: Tensor | None = None,
    device: torch.device | str = "cpu",
    drop_last: bool = False,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Any]]:
    """Yield (images (N, C, H, W), labels (N,)) on ``device``; labels that are no whole numbers as a list.

    ``order`` holds the indices to visit, all in order by default. Data sets with a method ``gather`` and
    ``TensorDataset``, subsets of them too, are cut as whole tensors; others are read sample by sample, by
    ``workers`` processes where more than 0.
    """
    indices = torch.arange(size(dataset)) if order is None else order
    if drop_last:
        indices = indices[: len(indices) // batch_size * batch_size]
    base, indices = _unwrap(dataset, indices)
    cuts = torch.split(indices, batch_size) if len(indices) else ()
    for images, labels in _gathered(base, cuts, workers):
        yield images.to(device, non_blocking=True), to_device(labels, device)


def _unwrap(dataset: Dataset[Sample], indices: Tensor) -> tuple[Dataset[Sample], Tensor]:
    while isinstance(dataset, Subset):
        indices = torch.as_tensor(dataset.indices)[indices]
        dataset = dataset.dataset
    return dataset, indices


def _gathered(base: Dataset[Any], cuts: Sequence[Tensor], workers: int) -> Iterator[tuple[Tensor, Any]]:
    if isinstance(base, Gathers) and not workers:
        yield from (base.gather(cut) for cut in cuts)
    elif isinstance(base, TensorDataset) and len(base.tensors) == 2:
        images, labels = base.tensors
        for cut in cuts:
            part = images[cut].detach()
            _check_finite(part, cut.tolist())
            yield part, labels[cut]
    else:
        sampler = [cut.tolist() for cut in cuts]
        for batch in DataLoader(_Numbered(base), batch_sampler=sampler, num_workers=workers, collate_fn=_collated):
            if isinstance(batch, HantError):
                raise batch
            yield batch


@dataclass(frozen=True, eq=False)
class _Numbered(Dataset[Any]):
    """Samples with their indices; in place of one that failed the error, since raised ones lose their form."""

    base: Dataset[Any]

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            return index, self.base[index]
        except HantError as error:
            return index, error
        except Exception as error:
            told = f"sample {index} of the data failed: {own_words(error)}; mend it or leave it out"
            failed = LoadError(f"{told}, and the same command goes on")
            failed.__cause__ = error  # for -vv
            return index, failed


def _collated(numbered: list[tuple[int, Any]]) -> tuple[Tensor, Any] | HantError:
    """Return images (N, C, H, W) and labels (N,), or the error of a sample."""
    try:
        return _collate(numbered)
    except HantError as error:
        return error


def _collate(numbered: list[tuple[int, Any]]) -> tuple[Tensor, Any]:
    for _, sample in numbered:
        if isinstance(sample, HantError):
            raise sample
    indices = [index for index, _ in numbered]
    images, labels = zip(*(sample for _, sample in numbered), strict=True)
    shapes = {tuple(image.shape): index for index, image in zip(indices, images, strict=True)}
    if len(shapes) > 1:
        (one, first), (other, second) = list(shapes.items())[:2]
        raise UsageError(
            f"images of the data differ in size: sample {first} has {one}, sample {second} has {other}; resize or "
            "crop them to one shape (C, H, W), and the same command goes on"
        )
    stacked = torch.stack(images).detach()
    _check_finite(stacked, indices)
    single = all(isinstance(label, Integral) or (isinstance(label, Tensor) and label.ndim == 0) for label in labels)
    return stacked, torch.tensor([int(label) for label in labels]) if single else list(labels)


def _check_finite(images: Tensor, indices: Sequence[int]) -> None:
    """Refuse values that would end in every weight. On another device nothing is looked at: that would wait for it."""
    if images.is_floating_point() and images.device.type == "cpu" and not bool(images.isfinite().all()):
        wrong = next(index for index, image in zip(indices, images, strict=True) if not bool(image.isfinite().all()))
        raise UsageError(
            f"sample {wrong} of the data has an image with values that are no finite numbers; mend it or leave it out, "
            "and the same command goes on"
        )
