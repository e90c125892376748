"""A layer of the supernet: the operations that are left to choose from, and which of them a step runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ....op_library.elastic import Elastic
from ...pretraining.nmse import nmse
from . import schedule
from .ladder import Ladder
from .schedule import SKIP, Pruning
from .walk import Walk


@dataclass(frozen=True)
class Share:
    """One operation's part in a layer's output."""

    choice: int
    """Index of the layer's ladder, or ``SKIP``."""
    rung: int = 1
    """Which width, from 1."""
    weight: Tensor | None = None
    """What its output is multiplied by, a scalar; None for 1."""


class StochasticLayer(nn.Module):
    """Runs in a block's place what ``plan`` says, and adds it up."""

    takes_sides = True

    def __init__(self, ladders: Sequence[Ladder], operations: Sequence[nn.Module], taught: nn.Module) -> None:
        """Take an ``Elastic`` for each ladder, or the block's own module where the ladder is ``teacher``.

        ``taught`` is the teacher's block, which ``error`` compares with; it is no part of the layer.
        """
        super().__init__()
        self.ladders = tuple(ladders)
        self.operations = nn.ModuleList(operations)
        self.plan: tuple[Share, ...] = (Share(0),)
        self.watching = False
        """Whether the error of the outputs is kept."""
        self.error: Tensor | None = None
        """Mean squared error of the last output against the teacher's block on the same input, over its variance."""
        self.runs = 0
        """Operations that were run."""
        self._taught = (taught,)  # not registered

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map what the block reads to a tensor of its output contract."""
        total: Tensor | None = None
        wanted = self._wanted(inputs) if self.watching else None
        for share in self.plan:
            made = self._run(share, inputs)
            made = made if share.weight is None else share.weight * made
            total = made if total is None else total + made
        assert total is not None, "a plan has shares"
        if wanted is not None:
            variance = wanted.float().var().clamp_min(1e-12)
            error = nmse(total, wanted, variance)
            self.error = error if self.error is None else self.error + error
        return total

    def _wanted(self, inputs: Sequence[Tensor]) -> Tensor:
        with torch.no_grad():
            found: Tensor = self._taught[0](*(value.clone() for value in inputs))
        return found

    def _run(self, share: Share, inputs: Sequence[Tensor]) -> Tensor:
        self.runs += share.choice != SKIP
        if share.choice == SKIP:
            return inputs[0]
        inputs = [value.clone() for value in inputs] if len(self.plan) > 1 else inputs  # blocks may write into them
        operation, name = self.operations[share.choice], self.ladders[share.choice].names[share.rung - 1]
        made: Tensor = operation(inputs[0], name) if isinstance(operation, Elastic) else operation(*inputs)
        return made


class Place:
    """What the search knows of one layer: probabilities, Prunodes and what is left."""

    def __init__(self, name: str, ladders: Sequence[Ladder], skip_ms: float | None, walk: Walk) -> None:
        """Begin with all of ``ladders`` alike; ``skip_ms`` is identity's latency, None where it does not fit."""
        self.name = name
        self.ladders = tuple(ladders)
        self.skips = skip_ms is not None
        """Whether identity fits."""
        self.skip_ms = skip_ms or 0.0
        self.walks = [replace(walk, rungs=len(ladder.names)) for ladder in ladders]
        self.left = schedule.Layer(tuple(range(len(ladders))), skips=skip_ms is not None)
        self.theta = torch.zeros(len(ladders) + 1, dtype=torch.float64, requires_grad=True)
        """Logits of the choices, the skip's last."""
        self.weights = torch.zeros(len(ladders), dtype=torch.float64, requires_grad=True)
        """Logits of the larger widths against the smaller ones."""

    @property
    def alive(self) -> tuple[int, ...]:
        """Choices that are left."""
        return self.left.alive

    def probabilities(self) -> Tensor:
        """Return the probability of each choice of ``alive``, without noise."""
        return self.theta[list(self.alive)].softmax(0)

    def noise(self, generator: torch.Generator) -> Tensor:
        """Return Gumbel noise for choices and widths, (choices + 1 + 2 x ladders,), the same whatever is left."""
        count = len(self.theta) + 2 * len(self.ladders)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-12)
        return -(-uniform.log()).log()

    def mixture(self, noise: Tensor, temperature: float, factors: tuple[float, float]) -> tuple[list[Share], Tensor]:
        """Return every choice's share, relaxed by ``noise``, and the latency (ms) that is expected of them.

        ``factors`` are those of skip and operation in a contest.
        """
        parts = (self._noisy(noise) / temperature).softmax(0)
        shares: list[Share] = []
        ms = parts.new_zeros(())
        for choice, part in zip(self.alive, parts, strict=True):
            factor = self.factor(choice, factors)
            for rung, width in self._widths(choice, noise, temperature):
                ms = ms + part * width * self.ms(choice, rung)
                shares.append(Share(choice, rung, factor * part * width))
        return shares, ms

    def drawn(self, noise: Tensor, factors: tuple[float, float]) -> tuple[list[Share], list[Share]]:
        """Return one choice and width by ``noise``, and the same choice with its other width."""
        choice = self.alive[int(self._noisy(noise).detach().argmax())]
        factor = self.factor(choice, factors)
        weight = None if factor == 1 else torch.tensor(factor, dtype=torch.float64)
        widths = self._widths(choice, noise, 1.0)
        order = sorted(widths, key=lambda item: -item[1].item())
        first, other = order[0][0], order[-1][0]
        return [Share(choice, first, weight)], [Share(choice, other, weight)]

    def even(self, noise: Tensor) -> tuple[list[Share], list[Share]]:
        """Return any choice with its largest width, and the same choice with any width."""
        choice = int(noise[: len(self.ladders)].argmax())
        rungs = len(self.ladders[choice].names)
        rest = noise[len(self.theta) + 2 * choice].item()
        rung = min(rungs, 1 + int(rungs * math.exp(-math.exp(-rest))))  # of Gumbel noise this is even in 0 to 1
        return [Share(choice, rungs)], [Share(choice, rung)]

    def factor(self, choice: int, factors: tuple[float, float]) -> float:
        """Return what a choice's output is multiplied by: 1 but in a contest of the skip and an operation that trains.

        Of weights that stay as they are a smaller part is only worse: the block's own operation would be kept less.
        """
        if not self.left.contest or self.ladders[self.alive[0]].names == ("teacher",):
            return 1.0
        return factors[0] if choice == SKIP else factors[1]

    def ms(self, choice: int, rung: int) -> float:
        """Return the latency of a choice (ms)."""
        return self.skip_ms if choice == SKIP else self.ladders[choice].ms[rung - 1]

    def rung_name(self, choice: int, rung: int) -> str:
        """Return the operation's name."""
        return "identity" if choice == SKIP else self.ladders[choice].names[rung - 1]

    def told(self, choice: int) -> str:
        """Return a choice in words: the operation, or the ladder from its narrowest width to its widest."""
        names = ("identity",) if choice == SKIP else self.ladders[choice].names
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"

    def _noisy(self, noise: Tensor) -> Tensor:
        """Return the logits of what is left with their noise; the skip's stand behind those of the ladders."""
        indices = [choice % len(self.theta) for choice in self.alive]
        return self.theta[indices] + noise[indices]

    def _widths(self, choice: int, noise: Tensor, temperature: float) -> list[tuple[int, Tensor]]:
        """Return the rungs of a choice that are in work, with their parts."""
        one = self.theta.new_ones(())
        if choice == SKIP or self.walks[choice].rungs == 1:
            return [(1, one)]
        walk, start = self.walks[choice], len(self.theta) + 2 * choice
        logits = torch.stack([self.weights.new_zeros(()), self.weights[choice]]) + noise[start : start + 2]
        small, large = (logits / temperature).softmax(0)
        return [(walk.small, small), (walk.large, large)]

    def advance(self, progress: float) -> None:
        """Let the Prunodes walk after a step of their weights."""
        with torch.no_grad():
            for index, walk in enumerate(self.walks):
                if walk.rungs > 1:
                    self.walks[index] = walk.advance(self.weights[index].item(), progress)
                    self.weights[index] = self.walks[index].weight

    def look(self, progress: float, most: int, pruning: Pruning = "rising") -> list[int]:
        """Let what is no longer probable leave; return what left."""
        before, logits = self.left, [self.theta[choice].item() for choice in self.alive]
        self.left = schedule.pruned(before, logits, progress, most, pruning)
        if SKIP in self.left.alive and SKIP not in before.alive:
            with torch.no_grad():
                self.theta[SKIP] = self.theta[self.left.alive[0]]
        return [choice for choice in before.alive if choice not in self.left.alive]

    def best(self) -> tuple[int, int]:
        """Return the most probable choice and its preferred rung."""
        choice = max(self.alive, key=lambda c: self.theta[c].item())
        return choice, 1 if choice == SKIP else self.walks[choice].best
