from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hant.transformer.data.content import alike, content_of
from hant.transformer.data.sources import load_data
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

IMAGES = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 3


class Items(Dataset[tuple[Tensor, int]]):
    """A data set without tensors of its own."""

    def __init__(self, images: Tensor, labels: Tensor, noise: float = 0.0) -> None:
        self.images, self.labels_, self.noise = images, labels, noise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return image + self.noise * torch.randn(image.shape), int(self.labels_[index])


class Broken(Dataset[tuple[Tensor, int]]):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        raise ValueError


@pytest.mark.parametrize("kind", [TensorDataset, Items])
def test_the_same_data_are_the_same_and_others_are_not(kind: type) -> None:
    ours = content_of(kind(IMAGES, LABELS))
    same = content_of(kind(IMAGES + 1e-3, LABELS))  # as another decoder would have it
    assert (ours.digest, alike(ours.looks, same.looks)) == (same.digest, True)
    assert not alike(ours.looks, content_of(kind(IMAGES.flip(-1), LABELS)).looks)
    assert not alike(ours.looks, content_of(kind(IMAGES.flip(1), LABELS)).looks)
    assert ours.digest != content_of(kind(IMAGES, (LABELS + 1) % 3)).digest
    assert ours.digest != content_of(kind(IMAGES[:39], LABELS[:39])).digest


def test_one_label_of_many_counts_where_all_are_known() -> None:
    changed = LABELS.clone()
    changed[1] = 2
    assert content_of(TensorDataset(IMAGES, LABELS)).digest != content_of(TensorDataset(IMAGES, changed)).digest


def test_images_that_are_changed_at_each_reading_do_not_count() -> None:
    first, second = (content_of(Items(IMAGES, LABELS, noise=1.0)) for _ in range(2))
    assert first.digest == second.digest
    assert alike(first.looks, second.looks)
    assert set(first.looks) == {()}


def test_samples_that_cannot_be_read_are_left_to_those_who_use_them() -> None:
    assert content_of(Broken()).looks == ()


def test_a_folder_is_the_same_elsewhere_and_another_with_other_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name, level in (("cat", 40), ("dog", 200)):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for index in range(3):
                pixels = rng.normal(level, 20, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / name / f"{index}.png")

    def content() -> tuple[str, tuple[tuple[float, ...], ...]]:
        data = load_data(f"imagefolder:{tmp_path / 'set'}", (3, 8, 8))
        found = content_of(data.train, data.test)
        return found.digest, found.looks

    before = content()
    assert content() == before
    for part in ("train", "val"):  # the names change places: as many files of the same names in both
        folder = tmp_path / "set" / part
        (folder / "cat").rename(folder / "x")
        (folder / "dog").rename(folder / "cat")
        (folder / "x").rename(folder / "dog")
    assert not alike(before[1], content()[1])
