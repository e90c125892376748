"""Folders of images as people have them: of any depth, broken, with hidden files, of other classes than the model's."""

from __future__ import annotations

import io
import random
import re
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hant.transformer.data.images import size
from hant.transformer.data.pixels import View, decode, fault
from hant.transformer.data.sources import load_data
from hant.transformer.errors import HantError, LoadError, UsageError
from PIL import Image

RAMP = np.linspace(0, 1, 40)[None].repeat(40, 0)


def folder(root: Path, classes: tuple[str, ...] = ("a", "b"), count: int = 3, part: str = "") -> Path:
    """Write ``count`` grey images of 40x40 for every class of ``train`` and ``val``."""
    buffer = io.BytesIO()
    Image.new("L", (40, 40), 10).save(buffer, "png")
    for name in (part,) if part else ("train", "val"):
        for label in classes:
            (root / name / label).mkdir(parents=True)
            for number in range(count):
                (root / name / label / f"{number}.png").write_bytes(buffer.getvalue())
    return root


def load(root: Path, query: str = "", shape: tuple[int, int, int] = (3, 40, 40), **more: Any) -> Any:
    return load_data(f"imagefolder:{root}?normalize=none{query}", shape, **more)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "image"),
    [
        (".png", (RAMP * 65535).astype(np.uint16)),
        (".tif", (RAMP * 65535).astype(np.uint16)),
        (".tif", (RAMP * 65535).astype(np.int32)),
        (".tif", (RAMP * (2**31 - 1)).astype(np.int32)),
        (".tif", RAMP.astype(np.float32)),
        (".tif", (RAMP * 255).astype(np.float32)),
        (".png", (RAMP * 255).astype(np.uint8)),
    ],
    ids=["16 bits png", "16 bits tiff", "16 of 32 bits", "32 bits", "float to 1", "float to 255", "8 bits"],
)
def test_deep_images_are_scaled(tmp_path: Path, suffix: str, image: np.ndarray[Any, Any], channels: int) -> None:
    file = tmp_path / f"ramp{suffix}"
    Image.fromarray(image).save(file)
    pixels = decode(file, (channels, 40, 40)) / 255
    assert pixels.shape == (channels, 40, 40)
    assert np.abs(pixels - RAMP).max() < 0.02


def test_unsigned_pixels_of_32_bits(tmp_path: Path) -> None:
    file = tmp_path / "ramp.tif"
    raw = (RAMP * (2**32 - 1)).astype(np.uint32).view(np.int32)
    Image.fromarray(raw).save(file)
    entry = struct.pack("<HHII", 339, 3, 1, 2)  # the sample format, signed
    assert entry in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(entry, struct.pack("<HHII", 339, 3, 1, 1)))
    assert np.abs(decode(file, (1, 40, 40)) / 255 - RAMP).max() < 0.02


@pytest.mark.parametrize("values", [(-1.0, 1.0), (0.0, 1e12), (0.0, float("nan"))])
def test_values_of_no_range_are_refused_by_name(tmp_path: Path, values: tuple[float, float]) -> None:
    file = tmp_path / "odd.tif"
    Image.fromarray(np.array([values], dtype=np.float32)).save(file)
    with pytest.raises(LoadError, match=rf"cannot read image {file}: its values are .* expected 0 to 1, 255, 65535 or"):
        decode(file, (1, 4, 4))


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_a_long_thin_image_takes_little_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    file = tmp_path / "long.png"
    Image.new("L", size, 128).save(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = decode(file, (3, 224, 224))
    assert (pixels == 128).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "in KiB"


@pytest.mark.parametrize(("interpolation", "crop"), [("bilinear", 0.875), ("bicubic", 0.95), ("bicubic", 0.9)])
@pytest.mark.parametrize("wide", [(90, 61), (50, 120), (64, 64)])
def test_pixels_are_those_of_timm(tmp_path: Path, wide: tuple[int, int], interpolation: str, crop: float) -> None:
    data = pytest.importorskip("timm.data")
    smooth = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize(wide, Image.Resampling.BICUBIC)
    image.save(tmp_path / "x.png")
    wanted = data.create_transform((3, 48, 48), interpolation=interpolation, crop_pct=crop, mean=(0,) * 3, std=(1,) * 3)
    view = View(48 / int(48 / crop), interpolation)
    assert np.abs(decode(tmp_path / "x.png", (3, 48, 48), view) / 255 - wanted(image).numpy()).max() < 3 / 255


def test_what_is_hidden_or_no_file_is_no_data(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for extra in (".ipynb_checkpoints", "__MACOSX"):
        (root / "train" / extra).mkdir()
        Image.new("L", (4, 4)).save(root / "train" / extra / "0.png")
    (root / "train" / "a" / "._0.png").write_bytes(b"\0\5\26\7")
    (root / "train" / "a" / ".cache").mkdir()
    Image.new("L", (4, 4)).save(root / "train" / "a" / ".cache" / "0.png")
    (root / "train" / "b" / "thumbs.jpg").mkdir()
    assert size(load(root).train) == 6
    assert load(root).notes == ()


def test_a_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "pictures")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert size(load_data("imagefolder:~/pictures", (3, 8, 8)).train) == 6


def broken(file: Path) -> str:
    file.write_bytes(file.read_bytes()[:60])
    return str(file)


def test_broken_images_are_told_before_any_work(tmp_path: Path) -> None:
    name = broken(folder(tmp_path) / "val" / "b" / "1.png")
    with pytest.raises(LoadError, match=r"1 of 12 images are broken, cannot read image .*broken=8\.4%") as caught:
        load(tmp_path)
    assert name in str(caught.value)
    assert "delete it" in str(caught.value)


def test_some_broken_images_are_skipped_and_counted(tmp_path: Path) -> None:
    name = broken(folder(tmp_path) / "train" / "a" / "1.png")
    skipped = load(tmp_path, "&broken=10%")
    assert (size(skipped.train), size(skipped.test)) == (5, 6)
    assert skipped.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert skipped.notes[0].startswith(f"data: 1 of 12 images are broken and skipped: {name}: ")
    Path(name).unlink()
    deleted = load(tmp_path)
    assert deleted.notes == ()
    assert (deleted.name, deleted.train.files) == (skipped.name, skipped.train.files), "the data are the same"


def test_a_few_of_many_are_skipped_without_asking(tmp_path: Path) -> None:
    folder(tmp_path, count=250)
    broken(tmp_path / "train" / "a" / "1.png")
    assert size(load(tmp_path).train) == 499
    broken(tmp_path / "train" / "a" / "2.png")
    with pytest.raises(LoadError, match="2 of 1,000 images are broken"):
        load(tmp_path)


@pytest.mark.parametrize("share", ["", "x", "200%", "-1", "nan"])
def test_a_share_that_is_none(tmp_path: Path, share: str) -> None:
    with pytest.raises(UsageError, match=r"expected a share of the images such as 1% or 0\.01"):
        load(folder(tmp_path), f"&broken={share}")


@pytest.mark.parametrize("thoroughly", [True, False])
def test_what_a_check_sees(tmp_path: Path, thoroughly: bool) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "webp", "bmp", "tif"):
        file = tmp_path / f"x.{suffix}"
        noise.save(file)
        whole = file.read_bytes()
        assert fault(file, thoroughly=thoroughly) == ""
        file.write_bytes(whole + b"\0" * 20)  # as cameras and archives leave them
        assert fault(file, thoroughly=thoroughly) == ""
        file.write_bytes(b"")
        assert fault(file, thoroughly=thoroughly) == "it is no image that Pillow knows"
        file.write_bytes(whole[: len(whole) // 2])
        if thoroughly or suffix in ("png", "jpg"):
            assert fault(file, thoroughly=thoroughly) != "", f"half a {suffix}"


def test_folders_that_are_not_the_outputs_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, ("cat", "dog", "owl"))
    wanted = "has 3 class folders and the network 1000 outputs, so which class is which output is not known; give --cla"
    with pytest.raises(UsageError, match=wanted):
        load(tmp_path, outputs=1000)
    assert load(tmp_path, outputs=3).train.labels.unique().tolist() == [0, 1, 2]


def test_a_file_says_which_folder_is_which_output(tmp_path: Path) -> None:
    folder(tmp_path / "set", ("cat", "dog", "n02 barn owl"))
    file = tmp_path / "classes.txt"
    file.write_text("n02 barn owl\nfish\ndog a domestic animal\n\ncat\n")
    labels = load(tmp_path / "set", outputs=5, classes=str(file)).train.labels
    assert labels.unique_consecutive().tolist() == [4, 2, 0]
    with pytest.raises(UsageError, match="class 'cat' is in line 5, the network has 4 outputs"):
        load(tmp_path / "set", outputs=4, classes=str(file))
    file.write_text("cat\ndog\n")
    with pytest.raises(UsageError, match=r"folder 'n02 barn owl' is not among the classes of .*classes\.txt"):
        load(tmp_path / "set", outputs=5, classes=str(file))
    with pytest.raises(LoadError, match=r"--classes: cannot read .*nowhere"):
        load(tmp_path / "set", outputs=5, classes=str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="'digits' has none"):
        load_data("digits", classes=str(file))


def test_synsets_are_the_outputs_of_imagenet(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    folder(tmp_path, ("n01440764", "n02123045", "n15075141"))  # tench, tabby, toilet tissue
    assert load(tmp_path, outputs=1000).train.labels.unique().tolist() == [0, 281, 999]
    assert load(tmp_path, outputs=3).train.labels.unique().tolist() == [0, 1, 2], "a network of these three"
    folder(tmp_path, ("n99999999",))
    with pytest.raises(UsageError, match="folder 'n99999999' is not among the classes of ImageNet"):
        load(tmp_path, outputs=1000)


def mutated(content: bytes, random_: random.Random) -> bytes:
    """Return ``content`` cut off, with bytes changed, or with a piece moved."""
    part = bytearray(content)
    way = random_.randrange(4)
    if way == 0:
        return bytes(part[: random_.randrange(len(part))])
    if way == 1:
        at, to = random_.randrange(len(part)), random_.randrange(len(part))
        return bytes(part[:at] + part[to : to + 40] + part[at:])
    for _ in range(random_.choice((1, 4, 40))):
        place = random_.randrange(min(len(part), 60) if way == 2 else len(part))  # headers, or anywhere
        part[place] = random_.randrange(256)
    return bytes(part)


def survive(tmp_path: Path, count: int) -> None:
    """Read ``count`` damaged images: each is read, or refused by name."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("png", {}),
        ("jpeg", {}),
        ("bmp", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("webp", {"lossless": True}),
        ("ppm", {}),
    ]
    random_, ends = random.Random(count), {"read": 0, "refused": 0}
    told: list[str] = []
    for number in range(count):
        kind, options = kinds[number % len(kinds)]
        buffer = io.BytesIO()
        noise.save(buffer, kind, **options)
        file = tmp_path / f"x.{kind}"
        file.write_bytes(mutated(buffer.getvalue(), random_))
        try:
            fault(file, thoroughly=number % 2 == 0)
            assert decode(file, (3, 8, 8)).shape == (3, 8, 8)
            ends["read"] += 1
        except HantError as error:
            told.append(str(error).replace(str(file), "FILE"))
            ends["refused"] += 1
    line = re.compile(r"data imagefolder: cannot read image FILE: .+; replace or delete it")
    assert [text for text in told if not line.fullmatch(text)] == []
    assert min(ends.values()) > count / 20, ends


def test_damaged_images_are_read_or_refused(tmp_path: Path) -> None:
    survive(tmp_path, 120)


@pytest.mark.slow
def test_a_hundred_thousand_damaged_images(tmp_path: Path) -> None:
    survive(tmp_path, 100_000)


@pytest.mark.parametrize("model", ["timm", "torchvision", "none"])
def test_images_are_treated_as_the_model_was_trained(tmp_path: Path, model: str) -> None:
    from hant.transformer.pipeline.inputs import preprocessing

    network = torch.nn.Conv2d(3, 4, 1)
    if model == "timm":
        network.pretrained_cfg = {  # type: ignore[assignment]
            "input_size": (3, 48, 48),
            "crop_pct": 0.95,
            "interpolation": "bicubic",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
        }
    elif model == "torchvision":
        from hant.transformer.files.factory import _told

        models = pytest.importorskip("torchvision.models")
        network.pretrained_cfg = _told(models, "resnet50", "DEFAULT")  # type: ignore[assignment]
    root = folder(tmp_path)
    data = load_data(f"imagefolder:{root}", (3, 48, 48), told=preprocessing(network))
    mean, std = (0.5, 0.5) if model == "timm" else (0.485, 0.229)
    assert data.train[0][0][0, 0, 0].item() == pytest.approx((10 / 255 - mean) / std, abs=1e-4)
    crop, way = {
        "timm": (48 / 50, "bicubic"),
        "torchvision": (224 / 232, "bilinear"),
        "none": (None, "bilinear"),
    }[model]
    assert isinstance(crop, float | None)
    view: Any = data.train
    assert view.view == View(crop, way)
    wanted: Callable[[str], bool] = data.name.endswith
    assert wanted({"timm": "half&crop=0.96&interpolation=bicubic", "none": "imagenet"}.get(model, "&crop=0.9655"))
