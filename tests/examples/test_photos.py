"""The example of photographs: weights under other names fit, and networks are timed beside each other."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import hant
import pytest
import torch
from hant.transformer.contracts.timing import Protocol
from hant.transformer.data.sources import load_data

timm = pytest.importorskip("timm")
Image = pytest.importorskip("PIL.Image")
FOLDER = Path(__file__).parents[2] / "examples" / "photos"


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"photos_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_weights_of_other_names_give_a_teacher_of_ones_own_classes(tmp_path: Path) -> None:
    made = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    renamed = {f"their.{name}": tensor for name, tensor in made.state_dict().items()}
    torch.save(renamed, tmp_path / "weights.pth")
    teacher = script("teacher")
    network = teacher.pretrained(0, tmp_path / "weights.pth").eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network(images), made.eval()(images))
    with pytest.raises(SystemExit, match="does not hold the tensors of tf_efficientnet_lite1"):
        teacher.pretrained(1, tmp_path / "weights.pth")

    for part, name, colour in [(p, c, v) for p in ("train", "val") for c, v in (("cat", 40), ("dog", 200))]:
        folder = tmp_path / "photos" / part / name
        folder.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (40, 40), (colour, 80 + index, 90)).save(folder / f"{index}.png")
    data = load_data(f"imagefolder:{tmp_path / 'photos'}?normalize=half", (3, 32, 32))
    tuned = teacher.finetuned(network, data, argparse.Namespace(seed=0, epochs=1, batch_size=4))
    assert tuned(torch.randn(2, 3, 32, 32)).shape == (2, 2)


def test_networks_are_timed_as_shares_of_the_first(tmp_path: Path) -> None:
    narrow, wide = (torch.nn.Sequential(torch.nn.Conv2d(3, width, 3, padding=1)) for width in (2, 32))
    for name, network in (("wide", wide), ("narrow", narrow)):
        hant.save(network, tmp_path / f"{name}.pt", torch.zeros(1, 3, 64, 64))
    protocol = Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)
    target = hant.load_target("cpu-ort").model_copy(update={"protocol": protocol})
    (share,) = script("ratio").ratios([tmp_path / "wide.pt", tmp_path / "narrow.pt"], target, (3, 64, 64))
    assert share > 0
