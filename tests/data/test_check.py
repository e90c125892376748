"""Usual mistakes of functions that make data, each told in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.task import Task
from hant.transformer.data.check import check_data, label_range, spread
from hant.transformer.data.images import ImageTensors
from hant.transformer.errors import LoadError, UsageError
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

Make = Callable[[Tensor, int], Any]


class Made(Dataset[Any]):
    """Noise of three classes, as ``make`` hands it out."""

    def __init__(self, make: Make, count: int = 30) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.make(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index)), index % 3)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


def failing(image: Tensor, label: int) -> Any:
    raise KeyError("no such file")


def good(image: Tensor, label: int) -> Any:
    return image, label


FINE: dict[str, Make] = {
    "plain": good,
    "numpy's label": lambda x, y: (x, np.int64(y)),
    "a tensor's label": lambda x, y: (x, torch.tensor(y)),
    "a list": lambda x, y: [x, y],
    "bytes": lambda x, y: (x.byte(), y),
}
WRONG: dict[str, tuple[Make, str]] = {
    "pillow": (lambda x, y: (Image.new("L", (4, 4)), y), r"type PIL\.Image, expected a float .*ToTensor"),
    "numpy": (lambda x, y: (x.numpy(), y), r"type numpy\.ndarray, .* return torch\.as_tensor\(image\)\.float\(\)"),
    "dictionary": (lambda x, y: {"image": x, "label": y}, "is a dictionary of image, label, expected a pair"),
    "three": (lambda x, y: (x, y, "file"), r"is a tuple of 3, expected a pair \(image, label\)"),
    "alone": (lambda x, y: x, r"train\[0\] is a torch\.Tensor, expected a pair"),
    "nothing": (lambda x, y: None, r"train\[0\] is a NoneType, expected a pair"),
    "batch": (lambda x, y: (x[None], y), "leave the batch dimension off"),
    "flat": (lambda x, y: (x.flatten(), y), r"shape \(192,\), expected \(C, H, W\)"),
    "sizes": (
        lambda x, y: (x[:, : 8 - y], y),
        r"train\[0\] has \(3, 8, 8\), train\[1\] has \(3, 7, 8\); resize",
    ),
    "nan": (lambda x, y: (x * float("nan"), y), "no finite numbers"),
    "one-hot": (lambda x, y: (x, torch.eye(3)[y]), r"a tensor \(3,\) of float32, .*argmax\(\)\) if it is one-hot"),
    "one in a row": (lambda x, y: (x, torch.tensor([y])), r"a tensor \(1,\) of int64, .* return int\(label\)"),
    "float": (lambda x, y: (x, float(y)), r"'0\.0' \(float\), expected a whole number"),
    "word": (lambda x, y: (x, "cat"), r"'cat' \(str\), expected a whole number, .* the place of its class among"),
    "none": (lambda x, y: (x, None), r"'None' \(NoneType\), expected a whole number"),
    "list": (lambda x, y: (x, [0, 1, 0]), r"'\[0, 1, 0\]' \(list\), .* one-hot"),
}


@pytest.mark.parametrize("kind", FINE)
def test_what_is_taken(kind: str) -> None:
    check_data(Data(Made(FINE[kind]), Made(FINE[kind])))


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_refused(kind: str, part: str) -> None:
    make, message = WRONG[kind]
    parts = {"train": Made(good), "test": Made(good)} | {part: Made(make)}
    if kind != "sizes" or part == "train":
        message = message.replace("train", part)
    else:
        message = r"train\[0\] has \(3, 8, 8\), test\[1\] has \(3, 7, 8\)"
    with pytest.raises(UsageError, match=f"data mine: .*{message}") as caught:
        check_data(Data(parts["train"], parts["test"], "mine"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (DataLoader(Made(good), 4), "train is a DataLoader, expected the data set itself; give loader.dataset"),
        (Stream(), "has no samples by index"),
        (iter([1, 2]), "has no samples by index"),
        (Made(good, 0), "train has 0 samples, expected at least 4"),
        (Made(good, 3), "train has 3 samples, expected at least 4"),
        (Made(failing), r"train\[0\] failed: KeyError: 'no such file'; mend the data set"),
    ],
)
def test_parts_that_are_no_data_sets(dataset: Any, message: str) -> None:
    with pytest.raises((UsageError, LoadError), match=message):
        check_data(Data(dataset, Made(good), "mine"))


def test_labels_of_another_task_may_be_anything() -> None:
    class Words(Task):
        def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
            return outputs.mean()  # type: ignore[no-any-return]

    data = Made(lambda x, y: (x, {"word": "cat"}))
    check_data(Data(data, data, task=Words()))


def test_samples_are_spread_over_the_whole() -> None:
    assert spread(3) == [0, 1, 2]
    places = spread(1_000_000)
    assert places[:4] == [0, 1, 2, 3]
    assert places[-1] == 999_999
    assert len(places) <= 20


def test_all_labels_count_where_they_are_kept() -> None:
    images, labels = torch.zeros(5000, 1, 2, 2), torch.zeros(5000, dtype=torch.int64)
    labels[1234] = 7
    few: Dataset[Any] = TensorDataset(images[:4], labels[:4])
    kept: Dataset[Any] = TensorDataset(images, labels)
    assert label_range(Data(kept, few)) == (0, 7)
    assert label_range(Data(few, ImageTensors(images, labels))) == (0, 7)
    listed = Made(good)
    listed.targets = [-1, *range(29)]  # type: ignore[attr-defined]
    assert label_range(Data(listed, few)) == (-1, 28)
    assert label_range(Data(Subset(listed, range(10)), few)) == (0, 2), "a sample, where they are not kept"
