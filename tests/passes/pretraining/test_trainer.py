from __future__ import annotations

from typing import cast

import torch
from hant.passes.pretraining.recipe import resolve
from hant.passes.pretraining.trainer import Trainer
from torch import Tensor, nn


class Gated(nn.Module):
    """A squeeze-and-excitation gate whose hidden units are all dead: the gate's first layer gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 1)
        self.squeeze = nn.Conv2d(64, 32, 1)
        self.expand = nn.Conv2d(32, 64, 1)
        nn.init.constant_(self.squeeze.bias, -100.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        gate = self.expand(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        return cast(Tensor, y * torch.sigmoid(gate))


def test_step_leaves_a_tensor_without_gradient_where_it_is() -> None:
    torch.manual_seed(0)
    module = Gated()
    before = module.squeeze.weight.detach().clone()
    trainer = Trainer("block", "gated", module, resolve(1000, seed=0))
    x, y = torch.randn(8, 64, 5, 5), torch.randn(8, 64, 5, 5)
    for index in range(3):
        trainer.step(x, y, torch.tensor(1.0), trainer.recipe.rate(index))
        trainer.count(index)

    assert trainer.failure == ""
    assert torch.equal(module.squeeze.weight, before)
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert not torch.equal(module.conv.weight.grad, torch.zeros(64, 64, 1, 1))  # type: ignore[arg-type]
