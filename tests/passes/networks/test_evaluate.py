from __future__ import annotations

import pytest
import torch
from hant.passes.networks.evaluate import evaluate
from hant.transformer.data.images import ImageTensors
from torch import nn


class Table(nn.Module):
    """Looks logits up; tells in which mode it ran."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.modes: set[bool] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.add(self.training)
        return self.logits[x[:, 0, 0, 0].long()]


def numbered(labels: torch.Tensor) -> ImageTensors:
    return ImageTensors(torch.arange(len(labels)).float().view(-1, 1, 1, 1), labels)


def test_metrics_are_means_over_all_samples_whatever_the_batch() -> None:
    logits, labels = torch.randn(23, 5), torch.randint(5, (23,))
    expected = nn.functional.cross_entropy(logits, labels).item()
    for batch in (1, 7, 23, 100):
        found = evaluate(Table(logits), numbered(labels), batch)
        assert found.loss == pytest.approx(expected, rel=1e-5)
        assert found.accuracy == 100 * (logits.argmax(1) == labels).sum().item() / 23
        assert found.samples == 23


def test_every_module_keeps_the_mode_it_had() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())).train()
    network.get_submodule("1.0").eval()  # frozen
    evaluate(network, numbered(torch.zeros(3, dtype=torch.long)), 2)
    assert [module.training for module in network.modules()] == [True, True, True, False, True]
    assert all(int(tensor) == 0 for name, tensor in network.named_buffers() if name.endswith("num_batches_tracked"))


def test_mode_and_gradients_are_left_as_they_were() -> None:
    network = Table(nn.Parameter(torch.randn(3, 5)))
    for mode in (True, False):
        network.train(mode)
        evaluate(network, numbered(torch.zeros(3, dtype=torch.long)), 2)
        assert network.training is mode
    assert network.modes == {False}
    assert network.logits.grad is None
