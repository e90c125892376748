from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hant.transformer.contracts.data import Data, Sample
from hant.transformer.data.augmentation import Affine, CropFlip
from hant.transformer.data.images import ImageTensors, Normalization, batches, shuffled, size
from hant.transformer.data.splits import split, take
from hant.transformer.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, Subset, TensorDataset


class Plain(Dataset[Sample]):
    """Gives samples one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return self.images[index], int(self.labels[index])


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), torch.arange(count)


def in_memory(images: torch.Tensor, labels: torch.Tensor) -> Dataset[Sample]:
    return TensorDataset(images, labels)  # type: ignore[return-value]


class Odd(Plain):
    """Sample 5 is not what the others are."""

    def __init__(self, change: Callable[[Sample], Sample]) -> None:
        super().__init__(*numbered(9))
        self.change = change

    def __getitem__(self, index: int) -> Sample:
        found = super().__getitem__(index)
        return self.change(found) if index == 5 else found


def endless(found: Sample) -> Sample:
    return found[0] / 0, found[1]


def larger(found: Sample) -> Sample:
    return torch.zeros(1, 3, 2), found[1]


def gone(found: Sample) -> Sample:
    raise OSError("the disk is gone\nand more")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (endless, "sample 5 of the data has an image with values that are no finite numbers"),
        (larger, "differ in size: sample 5 has (1, 3, 2), sample 3 has (1, 2, 2); resize"),
        (
            gone,
            "sample 5 of the data failed: OSError: the disk is gone; mend it or leave it out, and",
        ),
    ],
)
def test_a_sample_that_is_unlike_those_looked_at_before_is_named(
    change: Callable[[Sample], Sample], told: str, workers: int
) -> None:
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        list(batches(Odd(change), 3, torch.arange(9).flip(0), workers=workers))
    assert "\n" not in str(caught.value)


def test_tensors_that_are_no_numbers_are_named_and_gradients_left_behind() -> None:
    images, labels = numbered(9)
    images[7] = torch.nan
    with pytest.raises(UsageError, match="sample 7 of the data has an image with values"):
        list(batches(Subset(in_memory(images, labels), [3, 7]), 2))
    for kind in (in_memory, Plain):
        ((images, _),) = batches(kind(torch.ones(2, 1, 1, 1, requires_grad=True), labels[:2]), 2)
        assert not images.requires_grad


def indices(part: Dataset[Sample]) -> Sequence[int]:
    assert isinstance(part, Subset)
    return part.indices


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 40), batch=st.integers(1, 16), seed=st.integers(0, 99), drop=st.booleans())
def test_every_kind_of_data_set_gives_the_same_batches(count: int, batch: int, seed: int, drop: bool) -> None:
    images, labels = numbered(2 * count)
    kept = shuffled(2 * count, seed, 1)[:count].tolist()
    order = shuffled(count, seed, 2)
    found = []
    kinds: tuple[Callable[[torch.Tensor, torch.Tensor], Dataset[Any]], ...] = (Plain, ImageTensors, TensorDataset)
    for kind in kinds:
        dataset = Subset(Subset(kind(images, labels), range(2 * count)), kept)
        found.append(list(batches(dataset, batch, order, drop_last=drop)))
    expected = [kept[i] for i in order.tolist()][: count // batch * batch if drop else count]
    for stream in found:
        assert [label for _, y in stream for label in y.tolist()] == expected
        assert all(torch.equal(x[:, 0, 0, 0].long(), y) for x, y in stream)
        assert all(len(y) == batch for _, y in stream[:-1])


@settings(deadline=None)
@given(total=st.integers(2, 500), seed=st.integers(0, 10), share=st.floats(0.01, 0.9))
def test_split_parts_are_disjoint_and_complete(total: int, seed: int, share: float) -> None:
    data = Data(ImageTensors(*numbered(total)), ImageTensors(*numbered(1)))
    first, second = split(data, seed, share), split(data, seed, share)
    fit, held_out, again = (set(indices(part)) for part in (first.fit, first.held_out, second.held_out))
    assert not fit & held_out
    assert fit | held_out == set(range(total))
    assert held_out == again
    assert len(held_out) == min(6000, max(1, round(total * share)))


def test_take_gives_the_first() -> None:
    data = ImageTensors(*numbered(5))
    assert size(take(data, 3)) == 3
    assert take(data, 9) is data


def test_orders_differ_by_epoch_and_seed() -> None:
    orders = {tuple(shuffled(50, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_black_is_what_normalisation_makes_of_zero() -> None:
    for normalization in (Normalization(), Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))):
        for channels in (1, 3):
            made = normalization(torch.zeros(1, channels, 1, 1, dtype=torch.uint8))
            assert torch.allclose(made.flatten(), torch.tensor(normalization.black(channels)))


def test_crop_and_flip_only_move_pixels() -> None:
    images = torch.rand(8, 3, 6, 6)
    moved = CropFlip(padding=2, fill=(-1.0, -2.0, -3.0))(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    for image, changed in zip(images, moved, strict=True):
        for channel, fill in enumerate((-1.0, -2.0, -3.0)):
            known = set(image[channel].flatten().tolist()) | {fill}
            assert all(min(abs(value - k) for k in known) < 1e-6 for value in changed[channel].flatten().tolist())


def test_no_movement_changes_nothing() -> None:
    images = torch.rand(4, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(CropFlip(padding=0, flip=False)(images, generator), images)
    still = Affine(degrees=0, scale=0, shift=0, fill=-0.9)(images, generator)
    assert torch.allclose(still, images, atol=1e-5)


def test_augmentation_comes_from_the_generator() -> None:
    images = torch.rand(4, 1, 8, 8)
    for augment in (CropFlip(), Affine()):
        first, second = (augment(images, torch.Generator().manual_seed(5)) for _ in range(2))
        assert torch.equal(first, second)
