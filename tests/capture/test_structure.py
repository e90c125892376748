from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hant.transformer.capture.trace import trace
from torch import Tensor, nn

X = torch.zeros(2, 1, 8, 8)


class Act(nn.Module):
    """A module of one tensor without children, which stays whole in a recording."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Scale(nn.Module):
    value: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value


def net(*middle: nn.Module, **settings: Any) -> nn.Sequential:
    torch.manual_seed(0)
    parts = nn.Conv2d(1, 4, 3, padding=2, **settings), nn.BatchNorm2d(4, eps=1e-5), *middle
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def structure(model: nn.Module, **options: Any) -> str:
    return trace(model, X, **options).structure


def test_weights_names_of_classes_and_granularity_do_not_count() -> None:
    model = net(nn.ReLU())
    other = nn.Sequential(*model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert structure(model) == structure(other) == structure(model, granularity="fine") != ""


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: net(nn.ReLU(), dilation=2), id="dilation"),
        pytest.param(lambda: net(nn.ReLU(), stride=2), id="stride"),
        pytest.param(lambda: net(nn.ReLU6()), id="activation"),
        pytest.param(lambda: net(nn.LeakyReLU(0.2)), id="slope"),
        pytest.param(lambda: net(Act(torch.relu)), id="function"),
        pytest.param(lambda: net(nn.ReLU(), Scale(2.0)), id="another step"),
    ],
)
def test_settings_and_steps_count(other: Callable[[], nn.Module]) -> None:
    assert structure(net(nn.ReLU())) != structure(other())


def test_eps_counts() -> None:
    model = net(nn.ReLU())
    before = structure(model)
    model[1].eps = 1e-3  # type: ignore[assignment]
    assert structure(model) != before


def test_the_code_of_modules_that_stay_whole_counts() -> None:
    functions: list[Callable[[Tensor], Tensor]] = [torch.relu, torch.sin, lambda x: 2 * x, lambda x: 3 * x]
    assert len({structure(net(Act(function))) for function in functions}) == 4
    assert structure(net(Act(torch.relu))) == structure(net(Act(torch.relu)))


def test_buffers_that_are_not_saved_count() -> None:
    assert structure(net(Scale(2.0))) != structure(net(Scale(3.0)))
    assert structure(net(Scale(2.0))) == structure(net(Scale(2.0)))
