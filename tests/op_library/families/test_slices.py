"""Slices as operations of a pool."""

from __future__ import annotations

import hant
import pytest
import torch
from hant.op_library.families.slices import Slice
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import TensorSpec
from hant.tests.op_library.test_channels import MAP, Does, Gated, Two, conv
from hant.transformer.errors import UnfitError
from torch import Tensor, nn

CALL = ((MAP, MAP),)


def test_names_and_pool() -> None:
    widths = ("_w0.75", "_w0.5", "_w0.25")
    names = [*(f"slice{width}" for width in widths), "slice_k3", *(f"slice{width}_k3" for width in widths)]
    assert [spec.name for spec in hant.pool("elastic")] == ["teacher", "identity", *names]
    assert operation("slice_w0.3_k5") == Slice(0.3, 5)


@pytest.mark.parametrize(
    "name", ["slice", "slice_w1", "slice_w0", "slice_w1.5", "slice_k4", "slice_k1", "slice_k3_w0.5"]
)
def test_what_is_no_slice(name: str) -> None:
    with pytest.raises(hant.HantError, match=f"unknown operation '{name}'"):
        operation(name)


def reason(name: str, module: nn.Module, calls: tuple[tuple[TensorSpec, TensorSpec], ...] = CALL) -> str:
    with pytest.raises(UnfitError) as error:
        operation(name).derive(module.eval(), calls)
    return str(error.value)


class Sized(nn.Module):
    """Knows the number of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = conv(8, 16), conv(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        result: Tensor = self.down(y.view(y.shape[0], 16, 36).view(y.shape[0], 16, 6, 6))
        return result


class Beside(Two):
    def forward(self, x: Tensor, side: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + side


def test_reasons() -> None:
    plain = Two(nn.ReLU())
    assert reason("slice_w0.5", plain, CALL * 2) == (
        "the network runs the block 2 times, and slices are made for one call"
    )
    assert reason("slice_w0.5", Two(Does(lambda x: torch.cat([x, x], 1)), 16, 32)) == (
        "no inner channels to take away: the channels of first go through cat; "
        "the channels of second are the block's output"
    )
    assert reason("slice_w0.5", nn.ReLU()) == "no inner channels to take away: no layer makes any"
    assert reason("slice_k3", plain) == "no kernel above 3x3 that has a centre"
    assert reason("slice_w0.5_k3", plain) == "is the same as slice_w0.5 here, with 8 of 16 channels"
    small = Two(nn.ReLU(), 8, 8)
    assert reason("slice_w0.25", small) == "is the same as slice_w0.5 here, with 4 of 8 channels"
    assert reason("slice_w0.75", Two(nn.ReLU(), 4, 4)) == "is the same as teacher here, with 4 of 4 channels"
    assert reason("slice_w0.5", Sized()).startswith("the block's code has sizes of its own and does not run narrower: ")
    assert "missing 1 required positional argument: 'side'" in reason("slice_w0.5", Beside(nn.ReLU()))
    valid = nn.Sequential(nn.Conv2d(8, 8, 5), nn.Upsample(6))
    assert reason("slice_k3", nn.Sequential(nn.Conv2d(8, 8, 5)), ((MAP, TensorSpec((8, 2, 2))),)) == (
        "the block's code makes 8x4x4 of 8x6x6 where its kernels are cropped, in place of 8x2x2"
    )
    assert operation("slice_k3").derive(valid.eval(), CALL)(MAP.random(1)).shape == (1, 8, 6, 6)
    with pytest.raises(
        UnfitError, match=r"slice_w0\.5 cannot be built for 8x6x6 -> 8x6x6: it is made of the block's own"
    ):
        operation("slice_w0.5").build(MAP, MAP)


def test_a_slice_is_smaller_and_the_block_stays_as_it_is() -> None:
    module = Gated().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    slim = operation("slice_w0.5").derive(module, CALL)
    assert slim.get_parameter("deep.weight").shape == (12, 1, 3, 3)
    assert slim(MAP.random(2)).shape == (2, 8, 6, 6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    again = operation("slice_w0.5").derive(module, CALL)
    assert all(torch.equal(a, b) for a, b in zip(slim.parameters(), again.parameters(), strict=True))


def test_a_slice_of_a_frozen_block_can_be_trained() -> None:
    module = Gated().eval().requires_grad_(False)
    assert all(parameter.requires_grad for parameter in operation("slice_w0.5").derive(module, CALL).parameters())
    assert not any(parameter.requires_grad for parameter in module.parameters())
