from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hant.transformer.errors import StorageError, UsageError
from hant.transformer.pipeline.config import make, read
from hant.transformer.pipeline.session import load_materials, save_config, training_device


def test_devices() -> None:
    assert training_device("cpu") == torch.device("cpu")
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="unknown device 'gpu'; expected auto, cpu, cuda or cuda:1"):
        training_device("gpu")
    with pytest.raises(UsageError, match=r"device 'cuda:99' is not on this machine .* give --device cpu"):
        training_device("cuda:99")


def test_a_configuration_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    config = make({"budget": 0.5, "seed": 3})
    save_config(config, tmp_path / "deep" / "c.toml")
    assert make(read(tmp_path / "deep" / "c.toml")) == config
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/c.toml: "):
        save_config(config, tmp_path / "file" / "c.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model": "<Sequential>"},
            "gave its model <Sequential> as an object; go on from that program",
        ),
        ({"arch": "net.py:net"}, "net.py"),
        ({}, "no model given"),
    ],
)
def test_a_model_that_cannot_be_had_is_told(values: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_materials(make(values))


def test_the_target_takes_batch_size_and_precision() -> None:
    from torch import nn

    config = make({"batch_size": 4, "precision": "fp16", "input_shape": "3x8x8", "pool": "teacher"})
    materials = load_materials(config, model=nn.Conv2d(3, 4, 3))
    assert (materials.target.batch_size, materials.target.precision) == (4, "fp16")
    assert materials.example_inputs[0].shape == (2, 3, 8, 8)
    assert [spec.name for spec in materials.pool] == ["teacher"]
    with pytest.raises(UsageError, match="the input shape is not known; give --input-shape such as 3x224x224"):
        load_materials(make({}), model=nn.Conv2d(3, 4, 3))
