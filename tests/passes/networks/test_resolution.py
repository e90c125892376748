from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from hant.passes.networks.resolution import behind_resize, resized
from torch import nn


def test_images_are_smoothed_where_they_are_made_smaller() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(16).expand(1, 1, 32, 32)
    assert resized(stripes, (32, 32)) is stripes
    assert resized(stripes, (32, 8)).abs().max() < 0.3  # taking every fourth would leave 1 or -1
    flat = torch.full((2, 3, 8, 8), 0.25)
    assert torch.allclose(resized(flat, (6, 12)), torch.full((2, 3, 6, 12), 0.25))


def test_a_network_behind_a_resize_keeps_its_names_and_sees_its_own_size() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1))
    names = list(network.state_dict())
    images = torch.randn(2, 1, 8, 8)
    expected = network(resized(images, (6, 6)))
    behind = copy.deepcopy(behind_resize(network, (6, 6)))  # as training copies it
    assert list(behind.state_dict()) == names
    assert torch.equal(behind(images), expected)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1))
    assert F.mse_loss(behind_resize(plain, None)(images), plain(images)) == 0
