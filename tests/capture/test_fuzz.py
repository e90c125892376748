"""Damaged descriptions and files: read, or refused with the typed error; nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import hant
import pytest
import torch
from hant.transformer.errors import LoadError
from hant.transformer.files.checkpoint import Architecture
from hant.transformer.files.load import network_of
from torch import Tensor, nn

PAIR = ("net.safetensors", "net.json")
FILES = ("net.pt", "old.pth", "net.onnx", *PAIR)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.head(self.conv(x).relu().mean((2, 3)))
        return pooled


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    model = Small().eval()
    hant.save(model, folder / "net.pt", torch.zeros(1, 3, 8, 8))
    hant.save(model, folder / "net.safetensors", torch.zeros(1, 3, 8, 8))
    torch.save(model.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.onnx.export(model, (torch.zeros(2, 3, 8, 8),), folder / "net.onnx", dynamo=True, external_data=False)
    return folder


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Overwrite, cut out, double or append some bytes."""
    made = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        at, length = rng.randrange(len(made) + 1), rng.randrange(8)
        change = rng.randrange(4)
        if change == 0:
            made[at : at + length] = rng.randbytes(length)
        elif change == 1:
            del made[at : at + length]
        elif change == 2:
            made[at:at] = made[at : at + length]
        else:
            del made[rng.randrange(len(made) // 2, len(made) + 1) :]
    return bytes(made)


def refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except LoadError:
        return True
    return False


def fuzz_descriptions(folder: Path, count: int, seed: int) -> int:
    """Read ``count`` damaged descriptions of a network; return how many were refused."""
    text = json.dumps(json.loads((folder / "net.json").read_text()))
    rng = random.Random(seed)

    def read() -> object:
        made = Architecture.from_text(damaged(text.encode(), rng).decode("utf-8", "replace"), "x")
        return made.network and network_of(made.network, Path("x"))

    return sum(refused(read) for _ in range(count))


def fuzz_files(folder: Path, count: int, seed: int, work: Path) -> int:
    """Load ``count`` damaged model files; return how many were refused."""
    rng = random.Random(seed)
    contents = {name: (folder / name).read_bytes() for name in FILES}

    def read() -> object:
        name = rng.choice(FILES)
        for whole in PAIR:
            (work / whole).write_bytes(contents[whole])
        (work / name).write_bytes(damaged(contents[name], rng))
        path = work / (PAIR[0] if name in PAIR else name)
        return hant.load(path, arch="torch.nn:Identity" if name == "old.pth" else None)

    return sum(refused(read) for _ in range(count))


def test_damaged_descriptions_are_read_or_refused(files: Path) -> None:
    assert 100 < fuzz_descriptions(files, 300, seed=0) <= 300


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(files: Path, tmp_path: Path) -> None:
    assert 20 < fuzz_files(files, 100, seed=0, work=tmp_path) <= 100


@pytest.mark.slow
def test_the_reader_survives_four_hundred_thousand_descriptions(files: Path) -> None:
    assert fuzz_descriptions(files, 400_000, seed=1) > 200_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_reader_survives_a_hundred_thousand_files(files: Path, tmp_path: Path) -> None:
    assert fuzz_files(files, 100_000, seed=1, work=tmp_path) > 50_000
