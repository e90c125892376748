from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hant.transformer.contracts.data import Sample
from hant.transformer.data.images import batches, size
from hant.transformer.data.sources import NORMALIZATIONS, load_data, split_folder
from hant.transformer.errors import LoadError, UsageError
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Writer = Callable[[Path, Pixels, Labels, str], None]


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of a file ran",)


def everything(dataset: Dataset[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches(dataset, 100), strict=True)
    return torch.cat(images), torch.cat(labels)


def pictures(count: int, seed: int) -> tuple[Pixels, Labels]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), np.arange(count) % 10


def write_sheets(root: Path, images: Pixels, labels: Labels, part: str) -> None:
    grid = images.reshape(2, -1, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(64, -1, 3)
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, "WEBP", lossless=True)
    sheet = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    np.savez(root / f"cifar10-{part}-0.npz", labels=labels.astype(np.uint8), sheet0=sheet)


def write_pickles(root: Path, images: Pixels, labels: Labels, part: str) -> None:
    content = {b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}
    name = "data_batch_1" if part == "train" else "test_batch"
    (root / name).write_bytes(pickle.dumps(content, protocol=2))


def write_binary(root: Path, images: Pixels, labels: Labels, part: str) -> None:
    name = "data_batch_1.bin" if part == "train" else "test_batch.bin"
    rows = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(len(images), -1)], 1)
    rows.tofile(root / name)


def test_digits_are_split_the_same_everywhere() -> None:
    first, second = load_data("digits"), load_data("digits")
    assert (size(first.train), size(first.test)) == (1438, 359)
    for one, other in ((first.train, second.train), (first.test, second.test)):
        for mine, theirs in zip(everything(one), everything(other), strict=True):
            assert torch.equal(mine, theirs)
    images, labels = everything(first.train)
    assert images.shape[1:] == (1, 32, 32)
    assert abs(images.mean()) < 0.01
    assert abs(images.std() - 1) < 0.01
    shares = torch.bincount(everything(first.test)[1]) / torch.bincount(labels)
    assert shares.min() > 0.22
    assert shares.max() < 0.28


def test_digits_fit_the_network() -> None:
    data = load_data("digits", (3, 16, 24))
    images, _ = everything(data.test)
    assert images.shape[1:] == (3, 16, 24)
    assert torch.equal(images[:, 0], images[:, 2])


@pytest.mark.parametrize("write", [write_sheets, write_pickles, write_binary])
def test_cifar10_reads_every_layout(tmp_path: Path, write: Writer) -> None:
    made = {part: pictures(20, seed) for seed, part in enumerate(("train", "test"))}
    for part, (images, labels) in made.items():
        write(tmp_path, images, labels, part)
    data = load_data(f"cifar10:{tmp_path}?normalize=none", (3, 32, 32))
    for part in ("train", "test"):
        found, classes = everything(getattr(data, part))
        assert torch.equal(found, torch.from_numpy(made[part][0]).float() / 255)
        assert classes.tolist() == made[part][1].tolist()


def test_normalisation_is_that_of_the_specification(tmp_path: Path) -> None:
    images, labels = pictures(20, 0)
    for part in ("train", "test"):
        write_binary(tmp_path, images, labels, part)
    plain, _ = everything(load_data(f"cifar10:{tmp_path}?normalize=none").train)
    for name in ("imagenet", "cifar10", "half"):
        found, _ = everything(load_data(f"cifar10:{tmp_path}?normalize={name}").train)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in vars(NORMALIZATIONS[name]).values())
        assert torch.allclose(found, (plain - mean) / std, atol=1e-6)
    default, _ = everything(load_data(f"cifar10:{tmp_path}").train)
    assert torch.equal(default, everything(load_data(f"cifar10:{tmp_path}?normalize=cifar10").train)[0])


def test_pickles_run_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = pictures(20, 0)
    write_pickles(tmp_path, images, labels, "train")
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}))
    with pytest.raises(LoadError, match=r"it asks for builtins\.print, which is no array; get the file again"):
        load_data(f"cifar10:{tmp_path}")
    assert not capsys.readouterr().out


def write_folder(
    root: Path, part: str, names: tuple[str, ...] = ("cat", "dog"), count: int = 2, shape: tuple[int, int] = (40, 60)
) -> None:
    for index, name in enumerate(names):
        folder = root / part / name
        folder.mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", shape[::-1], (index * 100, number, 255)).save(folder / f"{number}.png")


def test_imagefolder_is_resized_cropped_and_labelled(tmp_path: Path) -> None:
    write_folder(tmp_path, "train", count=3)
    write_folder(tmp_path, "val")
    data = load_data(f"imagefolder:{tmp_path}?normalize=none", (3, 16, 16))
    images, labels = everything(data.train)
    assert images.shape == (6, 3, 16, 16)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.allclose(images[4], torch.tensor([100.0, 1.0, 255.0]).view(3, 1, 1).expand(3, 16, 16) / 255)
    assert size(data.test) == 4
    grey = load_data(f"imagefolder:{tmp_path}", (1, 8, 12))
    assert everything(grey.test)[0].shape == (4, 1, 8, 12)


def test_the_name_of_a_folder_may_hold_a_question_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("really?", "a?normalize=b", "both", "both?"):
        (tmp_path / name).mkdir()
    for text, folder, options in (
        ("really?", "really?", ""),
        ("really??normalize=none", "really?", "normalize=none"),
        ("a?normalize=b?normalize=none&broken=1%", "a?normalize=b", "normalize=none&broken=1%"),
        ("both", "both", ""),
        ("both?", "both?", ""),
        ("both?normalize=none", "both", "normalize=none"),
        ("nowhere?normalize=none", "nowhere", "normalize=none"),
        ("nowhere", "nowhere", ""),
        ("?normalize=none", "", "normalize=none"),
    ):
        assert split_folder(text) == (folder, options)
    for part in ("train", "val"):
        write_folder(tmp_path / "really?", part)
    images, _ = everything(load_data("imagefolder:really??normalize=none", (3, 4, 4)).train)
    assert images[0, 2].eq(1).all()


def test_imagefolder_keeps_the_centre(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        pixels = np.zeros((20, 60, 3), dtype=np.uint8)
        pixels[:, 20:40] = 255
        Image.fromarray(pixels).save(tmp_path / part / "a" / "x.png")
    images, _ = everything(load_data(f"imagefolder:{tmp_path}?normalize=none", (3, 20, 20)).test)
    assert torch.equal(images, torch.ones(1, 3, 20, 20))


def test_a_function_of_a_file_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import torch, hant\nfrom torch.utils.data import TensorDataset\n"
        "def mine():\n    part = TensorDataset(torch.zeros(4, 1, 2, 2), torch.arange(4))\n"
        "    return hant.Data(part, part)\ndef wrong():\n    return 3\ndef broken():\n    raise ValueError('no disk')\n"
    )
    (tmp_path / "my_data.py").write_text(code)
    assert size(load_data(f"{tmp_path}/my_data.py:mine").train) == 4
    monkeypatch.syspath_prepend(tmp_path)
    assert size(load_data("my_data:mine").train) == 4
    for spec, error, message in (
        ("my_data:mime", UsageError, "my_data has no function 'mime'; did you mean 'mine'?"),
        ("my_data:wrong", UsageError, "wrong() returned int, expected hant.Data(train, test)"),
        ("my_data:broken", LoadError, "broken() failed: ValueError: no disk"),
        ("my_dat:mine", UsageError, "no module 'my_dat'; expected digits, cifar10:DIR"),
        (f"{tmp_path}/none.py:mine", UsageError, f"no file {tmp_path}/none.py"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            load_data(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "unknown data 'digit', expected digits, cifar10:DIR, imagefolder:DIR, package.module:function or"),
        ("digit", "; did you mean 'digits'?"),
        ("cifar10:", "holds neither cifar-10-batches-py, cifar-10-batches-bin nor cifar10-train*.npz"),
        ("cifar10:/nowhere", "data cifar10: no folder /nowhere"),
        ("imagefolder:/nowhere", "data imagefolder: no folder /nowhere"),
        ("cifar10:x?normalise=half", "unknown option 'normalise' of data 'cifar10:x?normalise=half'; known: normalize"),
        ("cifar10:x?normalize=imagnet", "unknown normalisation 'imagnet' of data"),
    ],
)
def test_unknown_data_says_what_is_known(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train" / "cat" / "0.png").write_bytes(b"x"), "cannot read image"),
        (lambda root: (root / "train" / "bird").mkdir(), "no images in"),
        (lambda root: write_folder(root, "train", ("bird",)), "class 'bird' is only in one of"),
        (lambda root: (root / "val").rename(root / "valid"), "has no sub-folder val or test"),
    ],
)
def test_a_bad_folder_says_what_is_wrong(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    write_folder(tmp_path, "train")
    write_folder(tmp_path, "val")
    spoil(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        everything(load_data(f"imagefolder:{tmp_path}", (3, 8, 8)).train)
    assert "\n" not in str(caught.value)


def test_cifar10_refuses_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cifar10 has images of 3x32x32, the network takes 3x224x224"):
        load_data(f"cifar10:{tmp_path}", (3, 224, 224))
