"""A Prunode of one block alone: trained on the teacher's features, it walks to the width that is worth its time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ....op_library.elastic import Elastic
from ....transformer.tools.seeds import derived_seed
from ...pretraining.nmse import nmse
from .ladder import Ladder
from .walk import Walk

_WEIGHTS_RATE, _WALK_RATE, _WARM = 0.002, 0.1, 0.2
"""Learning rates (RMSprop, Adam), and the share of the steps in which the widest and any width train, nothing walks."""


@dataclass(frozen=True)
class Worth:
    """What errors and time cost, in nats."""

    error: float
    """For each unit of the error (MSE over variance)."""
    ms: float
    """For each millisecond of the lookup table."""

    def of(self, error: float, ms: float) -> float:
        """Return the cost of an operation (nats)."""
        return self.error * error + self.ms * ms


class Widening:
    """Trains two widths at a time, each on its own error, so memory and time do not depend on how many there are."""

    def __init__(self, block: str, elastic: Elastic, ladder: Ladder, worth: Worth, steps: int, seed: int) -> None:
        """Begin for ``block``; ``ladder`` are the widths of ``elastic`` with their latencies."""
        self.block, self.elastic, self.ladder = block, elastic, ladder
        self.walk = Walk(len(ladder.names))
        self._worth, self._steps, self._done = worth, steps, 0
        self._generator = torch.Generator().manual_seed(derived_seed(seed, "widening", block, elastic.name) % 2**31)
        self._weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self._walking = torch.optim.Adam([self._weight], lr=_WALK_RATE)
        self._training = torch.optim.RMSprop(elastic.parameters(), lr=_WEIGHTS_RATE, momentum=0.9)
        for module in (elastic.widest, *elastic.skeletons):
            for layer in module.modules():
                layer.training = isinstance(layer, _BatchNorm)

    @property
    def best(self) -> str:
        """The operation that it prefers."""
        return self.ladder.names[self.walk.best - 1]

    def step(self, x: Tensor, y: Tensor, variance: Tensor) -> None:
        """Take a step towards ``y``, the block's output for ``x``, and walk on."""
        progress = self._done / self._steps
        walking = progress >= _WARM
        pair = (self.walk.small, self.walk.large) if walking else (self._any(), self.walk.rungs)
        rungs = tuple(dict.fromkeys(pair))
        with torch.enable_grad():
            errors = [nmse(self.elastic(x.clone(), self.ladder.names[rung - 1]), y, variance) for rung in rungs]
            self._training.zero_grad()
            torch.stack(errors).sum().backward()  # type: ignore[no-untyped-call]
        self._set_rate(self._training, _WEIGHTS_RATE * _falling(progress))
        self._training.step()
        if walking and len(rungs) > 1:
            small, large = (
                self._worth.of(error.item(), self.ladder.ms[rung - 1])
                for error, rung in zip(errors, rungs, strict=True)
            )
            self._advance(large - small, (progress - _WARM) / (1 - _WARM))
        self._done += 1

    def _advance(self, difference: float, progress: float) -> None:
        """Let the walk follow the gradient of the two costs' mixture; ``difference`` is the larger width's excess."""
        uniform = torch.rand(2, generator=self._generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-12)
        noise = -(-uniform.log()).log()
        share = torch.sigmoid(self._weight.detach() + noise[1] - noise[0])
        self._weight.grad = share * (1 - share) * difference
        self._set_rate(self._walking, _WALK_RATE * _falling(progress))
        self._walking.step()
        self.walk = self.walk.advance(self._weight.item(), progress)
        with torch.no_grad():
            self._weight.fill_(self.walk.weight)

    def _any(self) -> int:
        return int(torch.randint(1, self.walk.rungs + 1, (1,), generator=self._generator))

    @staticmethod
    def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate


def _falling(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
