"""Differentiable search by Gumbel-softmax on the pretrained candidates (SNAS; HANT section 3.2, table 4).

Each block outputs a mixture of its candidates, weighted by a relaxed sample of the block's distribution. The
distributions follow the gradient of the loss plus a latency term; the candidates' weights stay as pretrained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...transformer.contracts.context import Context
from ...transformer.data.images import shuffled
from ...transformer.tools.seeds import derived_seed
from ..networks.supernet import Statistics, statistics_of
from ..ranking.judge import Judge
from .base import BaselinePass, Found, search_file
from .checkpoint import SearchState
from .contest import Contest


@dataclass(frozen=True)
class SnasPass(BaselinePass):
    """Train distributions over the candidates, then take the most probable network within the budget."""

    name: ClassVar[str] = "baseline-snas"

    steps: int = 300
    search_batch_size: int = 32
    learning_rate: float = 0.1
    start_temperature: float = 2.0
    """Of the relaxed samples; falls geometrically."""
    end_temperature: float = 0.3
    penalty: float = 5.0
    """Loss for each share by which the expected cost exceeds its limit."""
    statistics: Statistics = "running"
    """What batch norms normalise by during the search."""
    draw: int = 0
    """Another number draws other images and samples."""

    def search(self, context: Context, contest: Contest, judge: Judge) -> Found:
        """Train the distributions on the held-out images that every method is judged on."""
        device = context.device
        logits = [torch.zeros(len(row), device=device, requires_grad=True) for row in contest.table.loss]
        state = SearchState(context.store, self._file(context, contest, judge), logits, self.learning_rate)
        state.go_on(self.steps, context, self.name, lambda: self._step(context, contest, judge, logits, state))
        probable = tuple(F.log_softmax(row.detach().double(), 0).cpu().numpy() for row in logits)
        return Found(contest.most_probable(probable), self.steps, state.seconds)

    def _step(
        self,
        context: Context,
        contest: Contest,
        judge: Judge,
        logits: list[Tensor],
        state: SearchState,
    ) -> None:
        draw = [str(self.draw)] if self.draw else []
        seed = derived_seed(context.seed, self.name, str(self.budget), str(state.step), *draw) % 2**31
        generator = torch.Generator().manual_seed(seed)
        share = state.step / max(1, self.steps - 1)
        temperature = self.start_temperature * (self.end_temperature / self.start_temperature) ** share
        images, targets = judge.sample(shuffled(judge.total, seed, 0)[: self.search_batch_size])
        weights = [_relaxed(row, temperature, generator) for row in logits]
        table = contest.table
        network = judge.supernet.mix(
            dict(zip(table.blocks, table.operations, strict=True)), dict(zip(table.blocks, weights, strict=True))
        )
        expected = self.penalty * expected_excess(contest, [row.softmax(0) for row in logits])
        # the way back runs the candidates again: it is in here too
        with statistics_of(network, self.statistics):
            loss = judge.task.loss(network(images), images, targets) + expected
            gradients = torch.autograd.grad(loss, logits)
        state.optimizer.zero_grad()
        for row, gradient in zip(logits, gradients, strict=True):
            row.grad = gradient.nan_to_num(0.0)
        state.optimizer.step()

    def _file(self, context: Context, contest: Contest, judge: Judge) -> str:
        options = [self.steps, self.search_batch_size, self.learning_rate, self.start_temperature, self.end_temperature]
        how: list[float | str] = [] if self.statistics == "running" and not self.draw else [self.statistics, self.draw]
        return search_file(context, contest, judge, "snas", [*options, self.penalty, *how])


def expected_excess(contest: Contest, probabilities: Sequence[Tensor]) -> Tensor:
    """Return by which share the expected costs exceed their limits, added up; a scalar that can be differentiated."""
    total = probabilities[0].new_zeros(())
    for name, limit in contest.limits.items():
        rows = [
            p @ torch.as_tensor(row, dtype=p.dtype, device=p.device)
            for p, row in zip(probabilities, contest.table.cost[name], strict=True)
        ]
        total = total + F.relu(torch.stack(rows).sum() / limit - 1)
    return total


def _relaxed(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a Gumbel-softmax sample, shape (M,)."""
    uniform = torch.rand(len(logits), generator=generator).clamp(1e-9, 1 - 1e-7)
    gumbel = -(-uniform.log()).log()
    return ((logits + gumbel.to(logits)) / temperature).softmax(0)
