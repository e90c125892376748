"""ONNX files as teachers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hant
import onnxruntime
import pytest
import torch
from hant.transformer.errors import CaptureError, LoadError
from hant.transformer.files.load import input_shapes
from torch import Tensor, nn


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))


class Net(nn.Module):
    """Residual, with nothing that becomes arithmetic on shapes in a file."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.b(self.a(x).relu())).relu()
        made: Tensor = self.head(self.pool(x).flatten(1))
        return made


def dynamo(model: nn.Module, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(model, (images(2),), path, dynamo=True, dynamic_shapes=({0: batch},))


def script(model: nn.Module, path: Path) -> None:
    axes = {"x": {0: "batch"}}
    torch.onnx.export(model, (images(2),), path, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter that this file is made with
def test_shapes_that_a_file_computes_are_refused_when_it_is_traced(tmp_path: Path) -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(x.size(0), x.size(1) * 2, -1)

    script(Views().eval(), tmp_path / "net.onnx")
    loaded = hant.load(tmp_path / "net.onnx")
    assert loaded(images(4)).shape == (4, 6, 512)
    with pytest.raises(CaptureError, match=r"module .*Reshape reads the values of a tensor in Python"):
        hant.trace(loaded, images(2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter that this file is made with
def test_a_view_whose_only_size_is_computed_is_traced(tmp_path: Path) -> None:
    class Values(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3)).view(x.size(0))

    script(Values().eval(), tmp_path / "net.onnx")
    torch.testing.assert_close(hant.load(tmp_path / "net.onnx")(images(4)), images(4).mean((1, 2, 3)))


class Flat(nn.Module):
    """A shape is computed, as before ``torch.flatten`` was: of the batch alone."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.conv, self.sizes = nn.Conv2d(3, 4, 3, 2, 1), sizes
        self.head = nn.Linear(1024, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        return self.head(x.view(x.size(0), *self.sizes).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("export", [dynamo, script])
@pytest.mark.parametrize("sizes", [(-1,), (4, 256), (4, -1, 8)])
def test_a_view_that_keeps_the_batch_is_traced(
    sizes: tuple[int, ...], export: Callable[[nn.Module, Path], None], tmp_path: Path
) -> None:
    net = Flat(sizes).eval()
    export(net, tmp_path / "net.onnx")
    loaded = hant.load(tmp_path / "net.onnx")
    graph = hant.trace(loaded, images(1))
    with torch.no_grad():
        torch.testing.assert_close(graph.module(images(5)), net(images(5)), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("export", [dynamo, script])
def test_an_onnx_file_computes_what_it_says_and_is_traced(
    export: Callable[[nn.Module, Path], None], tmp_path: Path
) -> None:
    export(Net().eval(), tmp_path / "net.onnx")
    loaded = hant.load(tmp_path / "net.onnx")
    assert not loaded.training
    assert input_shapes(loaded) == ((3, 32, 32),)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: images(5).numpy()})
    graph = hant.trace(loaded, images(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images(5)), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)
        assert torch.equal(graph.module(images(5)), loaded(images(5)))
    assert sum(b.macs for b in graph.blocks) == graph.macs
    name = next(b.name for b in graph.replaceable if b.identity_allowed)
    assert graph.replace({name: nn.Identity()}).network(images(2)).shape == (2, 10)


def test_what_the_converter_does_not_know_is_named(tmp_path: Path) -> None:
    class Sorts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.det(x)

    torch.onnx.export(Sorts().eval(), (torch.randn(1, 3, 3),), tmp_path / "x.onnx", dynamo=True)
    with pytest.raises(LoadError, match=r"x\.onnx cannot be converted to PyTorch: .*Det.*; give weights and --arch"):
        hant.load(tmp_path / "x.onnx")
