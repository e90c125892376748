"""Models and shapes that cannot work are told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hant
import pytest
import torch
from hant.transformer.data.images import shuffled
from hant.transformer.data.sources import load_data
from hant.transformer.errors import CaptureError, UsageError
from hant.transformer.pipeline.config import make
from hant.transformer.pipeline.inputs import example_inputs, load_model, of_space, space_network
from torch import Tensor, nn


class Failing(nn.Module):
    """Fails in its own forward."""

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("anchors")


class Fixed(nn.Module):
    """Takes a batch of two only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return self.conv(x).view(2, 32)


def test_a_model_on_another_device_is_told_what_to_do() -> None:
    model = nn.Conv2d(1, 2, 1, device="meta")
    with pytest.raises(UsageError, match=r"the model is on meta, it is captured on the CPU; give model\.cpu\(\)"):
        example_inputs(make({"input_shape": "1x4x4"}), model, None)


def test_a_model_that_fails_by_itself_says_so() -> None:
    wanted = r"the model does not take inputs of 1x4x4: KeyError: 'anchors'.*, or mend the model$"
    with pytest.raises(UsageError, match=wanted):
        example_inputs(make({"input_shape": "1x4x4"}), Failing(), None)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_a_model_of_other_numbers_is_told_what_to_do(kind: torch.dtype) -> None:
    with pytest.raises(
        UsageError, match=rf"its weights are {str(kind)[6:]}, images are float32: give model\.float\(\)$"
    ):
        example_inputs(make({"input_shape": "1x4x4"}), nn.Conv2d(1, 2, 1).to(kind), None)


def test_what_a_compiled_model_wraps_is_the_teacher(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef make():\n    return torch.compile(torch.nn.Conv2d(1, 2, 1))\n")
    assert type(load_model(make({"arch": f"{tmp_path}/net.py:make"}))) is nn.Conv2d


def test_a_model_of_one_batch_size_says_so() -> None:
    with pytest.raises(
        CaptureError, match=r"runs on a batch of 2 and fails on one of \d+: RuntimeError: .*batch of any"
    ):
        hant.trace(Fixed().eval(), (torch.zeros(2, 1, 4, 4),))


def test_seeds_are_what_generators_take() -> None:
    for seed in (-1, 2**63, 2**64):
        with pytest.raises(UsageError, match="seed: input should be"):
            make({"seed": seed})
    largest = make({"seed": 2**63 - 1}).seed
    assert sorted(shuffled(5, largest, 3).tolist()) == [0, 1, 2, 3, 4]


def test_the_network_of_a_space_is_made_for_the_data_and_the_same_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'images = 8\ngranularity = 8\nexpansion = 2\nstem = "conv_3x3@8"\nhead = "conv_1x1@16"\n'
        'stages = [{ family = "efnv2", kernels = { silu = [3] }, channels = 8, layers = 1 }]\n'
    )
    config = make({"model": f"space:{file}", "budget": "0.5", "passes": {"finetune": {"epochs": 3}}})
    assert (config.search, config.pool) == ("scratch", f"space:{file}")
    assert config.passes["finetune"] == {"preload": "none", "distillation": 0.0, "epochs": 3}
    assert of_space(config)
    digits = load_data("digits", (1, 8, 8))
    network, again = space_network(config, digits), space_network(config, digits)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    other = space_network(config.model_copy(update={"seed": 1}), digits)
    assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    assert space_network(config, None)(torch.zeros(2, 3, 8, 8)).shape == (2, 1000)
