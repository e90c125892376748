import pytest
import torch
from hant.op_library.activations import ACTIVATIONS, activation, clamps, final
from hant.transformer.errors import UsageError
from torch import Tensor, nn
from torch.nn import functional


class Basic(nn.Module):
    """A residual block whose activations are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv(functional.silu(self.conv(functional.silu(x)))))


def test_every_name_makes_an_activation() -> None:
    for name in ACTIVATIONS:
        assert activation(name)(torch.zeros(1)).shape == (1,)


def test_unknown_activation_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown activation 'rellu'; did you mean 'relu'\?"):
        activation("rellu")


def test_final_is_what_makes_the_output() -> None:
    assert final(torch.fx.symbolic_trace(Basic())) == final(Basic()) == "relu"
    assert final(torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Hardswish()))) == "hardswish"
    assert final(torch.fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 1)))) is None
    assert final(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())) == "relu"
    assert final(nn.Sequential(nn.ReLU(), nn.Identity(), nn.Dropout())) == "relu"


def test_clamping_twice_is_clamping_once() -> None:
    x = torch.linspace(-9, 9, 99)
    for name in ACTIVATIONS:
        once = activation(name)(x)
        assert clamps(name) == torch.equal(activation(name)(once), once)


class Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) if x.sum() > 0 else x


def test_final_of_a_block_that_cannot_be_traced_is_unknown() -> None:
    assert final(Untraceable()) is None
