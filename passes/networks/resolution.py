"""Networks that see images at another size than the teacher does: convolutions and pooling know none.

While such a network is trained, the images are resized in front of it, so that the teacher's answers are to the images
it knows. What is delivered takes images of its own size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...transformer.contracts.context import Context
from ...transformer.contracts.data import Sample
from ...transformer.data.images import batches, size
from ..finetuning.records import StudentRecord

Size = tuple[int, int]
"""(H, W) in pixels."""


def resized(images: Tensor, wanted: Size) -> Tensor:
    """Return images (N, C, H, W) in the wanted size, smoothed where that is smaller, as image libraries do."""
    if tuple(images.shape[-2:]) == wanted:
        return images
    return F.interpolate(images, size=wanted, mode="bilinear", align_corners=False, antialias=True)


def size_of(context: Context) -> Size:
    """Return the size of the images that the teacher takes."""
    height, width = context.example_inputs[0].shape[-2:]
    return height, width


def behind_resize(network: nn.Module, wanted: Size | None) -> nn.Module:
    """Let ``network`` see all images in the wanted size, and return it; its parameters keep their names."""
    if wanted is not None:

        def resize(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return resized(inputs[0], wanted), *inputs[1:]

        network.register_forward_pre_hook(resize)
    return network


def seen_at(context: Context, wanted: Size | None) -> Context:
    """Return the context with example inputs, training and test images in the wanted size; None for as they are."""
    if wanted is None:
        return context
    inputs = tuple(resized(tensor, wanted) for tensor in context.example_inputs)
    data = context.data
    if data is not None:
        data = replace(data, train=_Resized(data.train, wanted), test=_Resized(data.test, wanted))
    return replace(context, example_inputs=inputs, data=data)


def as_student_sees(context: Context) -> Context:
    """Return the context with inputs and images in the size that the run's student takes."""
    record = context.store.get(StudentRecord, "student")
    return seen_at(context, None if record is None else record.size)


@dataclass(frozen=True, eq=False)
class _Resized(Dataset[Sample]):
    """A data set whose images have another size."""

    images: Dataset[Sample]
    wanted: Size

    def __len__(self) -> int:
        return size(self.images)

    def __getitem__(self, index: int) -> Sample:
        image, label = self.images[index]
        return resized(image[None], self.wanted)[0], label

    def gather(self, indices: Tensor) -> tuple[Tensor, Any]:
        """Return the images (N, C, H, W) and labels of ``indices``."""
        images, labels = next(iter(batches(self.images, len(indices), indices)))
        return resized(images, self.wanted), labels
