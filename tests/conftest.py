"""Fixtures that several folders of tests share."""

from __future__ import annotations

import functools
import importlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

# How long an example takes is a matter of the machine: it may stand still for seconds.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the key of a user's runs in a folder of the tests, also for the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _translations_once() -> Iterator[None]:
    """Read the exporter's table of translations once a process: torch reads it anew, for a second, at every export."""
    apis = importlib.import_module("torch.onnx._internal._lazy_import").onnxscript_apis
    original = functools.partial(type(apis).__getattr__, apis, "get_torchlib_ops")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(apis), "get_torchlib_ops", functools.cache(lambda: original()()))
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB with a file ``ballast`` of 256 KiB to delete for room; needs the right to mount."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(point)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        (point / "ballast").write_bytes(bytes(256 * 1024))
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


class OptionA(nn.Module):
    """The shortcut without parameters of the CIFAR ResNets: every second pixel, zero channels around."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = channels // 4

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad), "constant", 0)


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = OptionA(outputs) if stride != 1 else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class CifarResNet(nn.Module):
    def __init__(self, blocks: int = 2, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, 2 * width, 4 * width]
        for stage, (a, b) in enumerate(zip([width, *widths], widths, strict=False), start=1):
            first = BasicBlock(a, b, 1 if stage == 1 else 2)
            rest = [BasicBlock(b, b, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for stage in ("layer1", "layer2", "layer3"):
            out = self.get_submodule(stage)(out)
        out = F.avg_pool2d(out, out.size()[3])
        return cast(Tensor, self.linear(out.view(out.size(0), -1)))


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every value a size that matters; zero-initialised layers would make comparisons vacuous."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            fan = p[0].numel() if p.dim() > 1 else 1
            p.copy_(torch.randn(p.shape, generator=generator) * 0.5 / fan**0.5 + (1 if p.dim() == 1 else 0))
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


@pytest.fixture
def cifar_resnet() -> nn.Module:
    return randomised(CifarResNet()).eval()


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module], nn.Module]:
    return randomised
