from __future__ import annotations

import hant
import pytest
import torch
from hant.passes.networks.threads import threads_worth, worth
from torch import nn


def graph(size: int) -> hant.Graph:
    """Two convolutions of 16 channels: 2,304 MACs a pixel each."""
    layers = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    return hant.trace(layers, torch.zeros(2, 16, size, size))


@pytest.mark.parametrize(("size", "images", "threads"), [(8, 64, 1), (32, 64, 9), (32, 1, 1), (32, 14, 2)])
def test_threads_go_by_the_work_of_a_layer(size: int, images: int, threads: int) -> None:
    """Images of 32x32 pixels: 2.36 million MACs a layer and image, and a thread for each 16 million."""
    assert worth(graph(size), images) == threads


def test_the_number_of_threads_is_what_it_was_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_worth(graph(8), 64):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with threads_worth(graph(32), 64):
            assert torch.get_num_threads() == 2, "never more than there were"
    finally:
        torch.set_num_threads(before)
