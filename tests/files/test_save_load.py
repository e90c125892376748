from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import hant
import pytest
import timm
import torch
import torchvision
from hant.transformer.errors import CaptureError, LoadError, StorageError, UsageError
from hant.transformer.files.described import layers
from hant.transformer.files.load import input_shapes
from torch import Tensor, nn

Randomise = Callable[[nn.Module], nn.Module]


def images(batch: int, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_round_trip_is_exact_and_finds_the_same_blocks(cifar_resnet: nn.Module, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    hant.save(cifar_resnet, path, images(1), selection={"layer1.0": "identity"}, metadata={"note": 1})
    loaded = hant.load(path)
    assert not loaded.training
    assert input_shapes(loaded) == ((3, 32, 32),)
    assert loaded.state_dict().keys() == cifar_resnet.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(loaded(images(3)), cifar_resnet(images(3)))
    before, after = hant.trace(cifar_resnet, images(1)), hant.trace(loaded, images(1))
    assert [(b.name, b.kind, b.class_name, b.macs) for b in after.blocks] == [
        (b.name, b.kind, b.class_name, b.macs) for b in before.blocks
    ]
    student = after.replace({"layer1.0": nn.Identity()})
    assert isinstance(student.network.get_submodule("layer1.0"), nn.Identity)
    assert {p.stem for p in tmp_path.iterdir()} == {"net"}


def test_a_loaded_network_trains_like_the_original(randomise: Randomise, tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.dropout(self.bn(self.conv(x)).relu_(), 0.3, self.training)
            return cast(Tensor, self.head(x.mean((2, 3))))

    model = randomise(Net())
    hant.save(model, tmp_path / "net.pt", images(1))
    loaded = hant.load(tmp_path / "net.pt").train()
    model.train()
    results = []
    for network in (model, loaded):
        torch.manual_seed(0)
        loss = network(images(4)).square().sum()
        loss.backward()
        results.append([loss, *(p.grad for p in network.parameters()), *network.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_the_student_pair_says_which_operation_is_where(cifar_resnet: nn.Module, tmp_path: Path) -> None:
    graph = hant.trace(cifar_resnet, images(1)).replace({"layer1.0": nn.Identity(), "layer2.1": nn.Conv2d(16, 16, 1)})
    chosen = {"layer1.0": "identity", "layer2.1": "cb_1x1"}
    hant.save(graph.network, tmp_path / "student.safetensors", images(1), selection=chosen)
    told = json.loads((tmp_path / "student.json").read_text())
    assert told["selection"] == chosen
    assert told["input_shape"] == [[3, 32, 32]]
    loaded = hant.load(tmp_path / "student.safetensors")
    assert isinstance(loaded.get_submodule("layer2.1"), nn.Conv2d)
    with torch.no_grad():
        assert torch.equal(loaded(images(2)), graph.module(images(2)))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_tied_weights_stay_tied(tmp_path: Path, suffix: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.b(self.a(x)))

    hant.save(Tied(), tmp_path / f"tied{suffix}", torch.randn(1, 4))
    loaded = hant.load(tmp_path / f"tied{suffix}")
    assert loaded.get_parameter("a.weight") is loaded.get_parameter("b.weight")


def test_what_data_cannot_hold_is_refused_with_its_place(tmp_path: Path) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, torch.fft.hfft(x))

    with pytest.raises(
        CaptureError, match=r"module 0: the function torch\.fft\.hfft is not among those that a network file may"
    ):
        hant.save(nn.Sequential(Spectrum()), tmp_path / "x.pt", torch.randn(1, 3, 4))
    with pytest.raises(UsageError, match="needs example_inputs"):
        hant.save(Spectrum(), tmp_path / "x.pt")
    with pytest.raises(StorageError, match=r"cannot write .*nowhere/x\.pt: No such file"):
        hant.save(nn.Linear(2, 2), tmp_path / "nowhere" / "x.pt", torch.randn(1, 2))
    assert list(tmp_path.iterdir()) == []


def wrapped(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "pack",
    [
        lambda s: s,
        lambda s: {"state_dict": wrapped(s, "module."), "epoch": 3},
        lambda s: {"model": wrapped(s, "_orig_mod.module."), "optimizer": {"lr": 0.1}},
        lambda s: {"state_dict": {k: v + 1 for k, v in s.items()}, "state_dict_ema": s, "arch": "resnet18"},
        lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    ],
    ids=["plain", "data-parallel", "compiled", "averaged", "no-counters"],
)
def test_state_dicts_of_training_scripts_load(pack: Callable[..., object], tmp_path: Path) -> None:
    teacher = torchvision.models.resnet18(num_classes=7).eval()
    torch.save(pack(teacher.state_dict()), tmp_path / "w.pth")
    for arch in ("torchvision:resnet18", "timm:resnet18"):
        loaded = hant.load(tmp_path / "w.pth", arch=arch)
        with torch.no_grad():
            assert torch.allclose(loaded(images(2, 64)), teacher(images(2, 64)), atol=1e-5)


def test_a_timm_training_checkpoint_tells_its_arch(tmp_path: Path) -> None:
    teacher = timm.create_model("resnet18", num_classes=5).eval()
    args = argparse.Namespace(model="resnet18.a1_in1k", lr=0.1)
    torch.save({"state_dict": teacher.state_dict(), "args": args}, tmp_path / "last.pth.tar")
    loaded = hant.load(tmp_path / "last.pth.tar")
    assert input_shapes(loaded) == ((3, 224, 224),)
    assert torch.equal(loaded.get_parameter("fc.weight"), teacher.fc.weight)


def test_a_factory_of_the_user_makes_the_network(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\ndef make(width=3):\n    return nn.Linear(2, width)\n")
    torch.save(nn.Linear(2, 5).state_dict(), tmp_path / "w.pt")
    made = hant.load(tmp_path / "w.pt", arch=f"{tmp_path}/mine.py:make", arch_kwargs={"width": 5})
    assert made.weight.shape == (5, 2)
    with pytest.raises(LoadError, match=r"has no 'mak'; did you mean 'make'"):
        hant.load(None, arch=f"{tmp_path}/mine.py:mak")
    made = hant.load(None, arch="torch.nn:Linear", arch_kwargs={"in_features": 2, "out_features": 3})
    assert made.weight.shape == (3, 2)


def test_other_weights_are_told_by_the_first_differences(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "w.pth")
    with pytest.raises(LoadError) as caught:
        hant.load(tmp_path / "w.pth", arch="timm:resnet50")
    told = str(caught.value)
    assert "are of another network: 165 missing, 0 unexpected, 24 of other shape, of 320 tensors (missing lay" in told
    assert "layer1.0.conv1.weight is 64x64x1x1 in the network and 64x64x3x3 in the file" in told
    assert told.endswith("; check --arch and --arch-kwargs")
    assert len(told) < 900


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none.pt", "does not exist"),
        (lambda p: written(p / "x.pt", b""), r"x\.pt is empty; fetch it again"),
        (lambda p: written(p / "x.pt", b"PK\x03\x04" * 9), r"x\.pt is an archive that was cut short; fetch it again"),
        (lambda p: written(p / "x.pt", b"version https://git-lfs.github.com/spec/v1"), "is a pointer of Git LFS"),
        (lambda p: written(p / "x.pt", b"<!DOCTYPE html>"), "is a web page, not a model; fetch it again"),
        (lambda p: written(p / "x.pt", b"hello"), "no torch file: it starts with b'hello'"),
        (lambda p: written(p / "x.safetensors", b"\xff" * 40), "is damaged"),
        (lambda p: written(p / "x.onnx", b"x"), "x.onnx is damaged: it is no ONNX model"),
        (lambda p: written(p / "x.h5", b"x"), r"of unknown kind '.h5'; expected .safetensors, .*\.onnx"),
        (lambda p: saved(p / "x.pt", [1, 2]), "holds no state dict but a list"),
        (lambda p: saved(p / "x.pt", nn.Linear(2, 2).state_dict()), "does not say of which network; give --arch"),
        (lambda p: saved(p / "x.pt", nn.Linear(2, 2)), r"names \(torch.nn.modules.linear.Linear\); save it again"),
        (lambda p: cut(saved(p / "x.pt", {"a": torch.randn(500)})), "x.pt"),
        (lambda p: "timm:resnet1888", "timm has no model 'resnet1888'; did you mean resnet18"),
        (lambda p: "torchvision:resnet17", "torchvision has no model 'resnet17'; did you mean"),
    ],
)
def test_bad_files_give_one_clear_line(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=message) as caught:
        hant.load(make(tmp_path))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def cut(path: Path) -> Path:
    return written(path, path.read_bytes()[:700])


def test_trusted_files_load(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    torch.save(model, tmp_path / "whole.pt")
    loaded = hant.load(tmp_path / "whole.pt", trust=True)
    assert torch.equal(loaded(torch.ones(1, 2)), model(torch.ones(1, 2)))
    torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), tmp_path / "p.pt2")
    with pytest.raises(LoadError, match="can fall back to pickle"):
        hant.load(tmp_path / "p.pt2")
    assert torch.equal(hant.load(tmp_path / "p.pt2", trust=True)(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_what_a_later_torch_wrote_is_read_where_it_says_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.12 gave batch norms ``bias``; with it true they are those of before."""
    known = layers._arguments
    monkeypatch.setattr(layers, "_arguments", lambda kind: {k: v for k, v in known(kind).items() if k != "bias"})
    norm = {"layer": "BatchNorm2d", "arguments": {"num_features": 4, "bias": True}}
    assert repr(layers.layer_from_json(norm)) == repr(torch.nn.BatchNorm2d(4))
    for wrong in (
        {**norm, "arguments": {"num_features": 4, "bias": False}},
        {"layer": "ReLU", "arguments": {"bias": True}},
    ):
        with pytest.raises(LoadError, match=r"arguments it does not have: \['bias'\]"):
            layers.layer_from_json(wrong)
