from __future__ import annotations

from typing import cast

import hant
import pytest
import torch
from hant.op_library.pools import pool
from hant.passes.candidates.build import build_candidate
from hant.passes.pretraining.engine import train
from hant.passes.pretraining.recipe import resolve
from hant.passes.pretraining.trainer import Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset


class Convolution(nn.Module):
    """A residual block that merges dimensions by ``view``, which channels-last features refuse, or does not."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        self.view = view
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.view:
            y = y.view(y.shape[0], -1).view(y.shape)
        return torch.relu(x + y)


class Network(nn.Module):
    def __init__(self, view: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Convolution(view), Convolution(view))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.blocks(self.stem(x)).mean((2, 3))))


class Images(Dataset[tuple[Tensor, int]]):
    def __init__(self, samples: list[tuple[Tensor, int]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.samples[index]


class Recorder(Trainer):
    """Keeps what it was given."""

    def step(self, x: Tensor, y: Tensor, variance: Tensor, rate: float | Tensor) -> None:
        self.seen = (x, y)
        super().step(x, y, variance, rate)


@pytest.mark.parametrize("view", [False, True])
def test_features_are_channels_last_where_the_teacher_takes_it(view: bool) -> None:
    torch.manual_seed(0)
    network = Network(view).eval()
    graph = hant.trace(network, torch.zeros(2, 3, 6, 6))
    block = graph.replaceable[0]
    (spec,) = pool("cb_res_3x3")
    recipe = resolve(8, seed=0, epochs=1, batch_size=4)
    recorder = Recorder(block.name, spec.name, build_candidate(block, spec, 0), recipe)
    images = [(torch.randn(3, 6, 6), 0) for _ in range(8)]

    done = train(graph, [recorder], recipe, Images(images), {b.name: 1.0 for b in graph.blocks}, torch.device("cpu"))

    assert (done, recorder.steps, recorder.failure) == (2, 2, "")
    x, y = recorder.seen
    assert x.is_contiguous(memory_format=torch.contiguous_format if view else torch.channels_last)
    assert not x.is_contiguous(memory_format=torch.channels_last if view else torch.contiguous_format)
    with torch.no_grad():
        torch.testing.assert_close(y, network.blocks[0](x))


@pytest.mark.gpu
@pytest.mark.parametrize("operation", ["cb_res_3x3", "efn_3x3_e3_se0.25", "vit_d1_w32_h4", "dbb_1x1"])
def test_streams_and_recorded_steps_train_the_same_weights(operation: str) -> None:
    device = torch.device("cuda")
    torch.manual_seed(0)
    graph = hant.trace(Network(view=False).eval(), torch.zeros(2, 3, 6, 6))
    recipe = resolve(64, seed=0, epochs=4, batch_size=4)
    images = Images([(torch.randn(3, 6, 6), 0) for _ in range(64)])
    ends: list[dict[str, Tensor]] = []
    for streams in (0, 4):
        trainers = [
            Trainer(block.name, spec.name, build_candidate(block, spec, 0).to(device), recipe)
            for block in graph.replaceable
            for spec in pool(operation)
        ]
        graph.module.to(device)
        done = train(graph, trainers, recipe, images, {b.name: 1.0 for b in graph.blocks}, device, streams=streams)
        assert [(t.steps, t.failure) for t in trainers] == [(done, "")] * len(trainers)
        ends.append({f"{t.block}.{name}": tensor for t in trainers for name, tensor in t.state().items()})
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=1e-3, atol=1e-4)
