"""A small network, its weights and its data as files, as a user has them; the command in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hant.transformer.cli.main import main
from safetensors.torch import save_file

NETWORK = """
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)


class Net(nn.Module):
    def __init__(self, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def net(width: int = 8, depth: int = 2) -> Net:
    torch.manual_seed(0)
    return Net(width, depth)


def bare() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 3))


def data():
    import hant

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(240, 1, 12, 12, generator=generator)
    labels = torch.arange(240) % 3
    images += (labels - 1).view(-1, 1, 1, 1)
    train, test = (Part(images[:180], labels[:180]), Part(images[180:], labels[180:]))
    return hant.Data(train=train, test=test, name="shades")


def broken():
    import hant

    images, labels = torch.randn(20, 1, 12, 12), torch.arange(20) % 3
    return hant.Data(train=Broken(images, labels), test=Part(images, labels), name="broken")


class Part(torch.utils.data.Dataset):
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class Broken(Part):
    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices] * (1 // int(7 not in indices))
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def error(self) -> str:
        """Return the one error line; fail if there is a traceback or another line of error."""
        assert "Traceback" not in self.err
        found = re.findall(r"^hant-opt: error: (.*)$", self.err, re.MULTILINE)
        assert len(found) == 1, self.err
        assert self.err.rstrip().endswith(found[0])
        return str(found[0])


QUICK = """
name = "quick"
backend = "onnxruntime"
[protocol]
warmup_seconds = 0.02
rounds = 5
max_rounds = 5
"""
"""A target that is timed just long enough to have a time."""
SMALL_JOB = [  # within 0.8 the student differs from the teacher; within 1 noise would decide
    *("net.safetensors", "--arch", "net.py:net", "--data", "net.py:data", "--target", "./quick.toml"),
    *("--budget", "0.8", "--pool", "teacher,identity", "--epochs", "1"),
    *("--set", "align.epochs=1", "--set", "pretrain.epochs=1"),
    *("-o", "run", "--quiet"),
]
Command = Callable[..., Done]


@pytest.fixture(scope="session")
def network_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``net.py``, ``net.safetensors``, the weights of its ``net()``, and a target ``quick.toml``."""
    place = tmp_path_factory.mktemp("network")
    (place / "net.py").write_text(NETWORK)
    (place / "quick.toml").write_text(QUICK)
    spec = importlib.util.spec_from_file_location("net_of_tests", place / "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    save_file(module.net().state_dict(), place / "net.safetensors")
    return place


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, network_files: Path) -> Path:
    """A directory with the network's files and a finished run ``run``, to copy and not to change."""
    place = tmp_path_factory.mktemp("small")
    shutil.copytree(network_files, place, dirs_exist_ok=True)
    with contextlib.chdir(place):
        assert main(SMALL_JOB) in (0, 4)
    return place


@pytest.fixture
def place(network_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the network's files."""
    shutil.copytree(network_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run ``hant-opt`` with the words in this process."""

    def run(*words: str) -> Done:
        capfd.readouterr()
        code = main(words)
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture
def job(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the module's ``finished`` run to change, as the working directory."""
    place = tmp_path / "job"
    shutil.copytree(finished, place)
    monkeypatch.chdir(place)
    return place
