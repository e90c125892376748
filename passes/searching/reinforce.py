"""REINFORCE with shared weights, in the manner of E-NAS (HANT section 3.2, table 4).

A controller samples networks, each is run with the pretrained weights on one batch, and the accuracy less a latency
penalty is its reward. At the end the controller's samples within the budget are evaluated and the best is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...transformer.contracts.context import Context
from ...transformer.contracts.task import Classification
from ...transformer.data.images import shuffled
from ...transformer.errors import InfeasibleError, UsageError
from ...transformer.tools.seeds import derived_seed
from ..ranking.judge import Judge
from .base import BaselinePass, Found, best_of, search_file
from .checkpoint import SearchState
from .contest import Contest, Ints
from .controller import Controller

_DRAWS = 100
"""Samples of the trained controller for each network that is wanted, at most."""


@dataclass(frozen=True)
class ReinforcePass(BaselinePass):
    """Train a controller by REINFORCE, then take the best of its networks within the budget."""

    name: ClassVar[str] = "baseline-reinforce"

    steps: int = 300
    networks_per_step: int = 4
    search_batch_size: int = 64
    learning_rate: float = 0.01
    entropy: float = 0.002
    """Reward for each nat of the blocks' mean entropy, so that the controller goes on exploring."""
    penalty: float = 2.0
    """Reward taken off for each share by which the worst cost exceeds its limit."""
    finalists: int = 20
    """Networks of the trained controller that are evaluated on all images."""

    def search(self, context: Context, contest: Contest, judge: Judge) -> Found:
        """Train the controller, sample it, evaluate.

        Raises:
            UsageError: the task is another than classification.
        """
        if not isinstance(judge.task, Classification):
            raise UsageError(
                f"{self.name} is rewarded by a classifier's accuracy, the data have the task {judge.task.name!r}; "
                "compare with baseline-snas, baseline-random or baseline-greedy"
            )
        controller = Controller(contest.table, derived_seed(context.seed, self.name, "controller") % 2**31)
        parameters = list(controller.parameters())
        state = SearchState(context.store, self._file(context, contest, judge), parameters, self.learning_rate)
        state.go_on(self.steps, context, self.name, lambda: self._step(context, contest, judge, controller, state))
        found = best_of(contest, judge, self._finalists(context, contest, controller), all_images=False)
        networks = found.networks + self.steps * self.networks_per_step
        return Found(found.choice, networks, found.seconds + state.seconds, found.losses)

    def _step(
        self, context: Context, contest: Contest, judge: Judge, controller: Controller, state: SearchState
    ) -> None:
        seed = derived_seed(context.seed, self.name, str(self.budget), str(state.step)) % 2**31
        generator = torch.Generator().manual_seed(seed)
        images, labels = judge.sample(shuffled(judge.total, seed, 0)[: self.search_batch_size])
        gains: list[Tensor] = []
        for _ in range(self.networks_per_step):
            choice, logarithm, entropy = controller.sample(generator)
            reward = self._reward(contest, judge, choice, images, labels)
            average = float(state.extra) if state.step else reward
            gains.append((reward - average) * logarithm + self.entropy * entropy / len(choice))
            state.extra[0] = 0.95 * average + 0.05 * reward
        state.optimizer.zero_grad()
        (-torch.stack(gains).mean()).backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()

    def _reward(self, contest: Contest, judge: Judge, choice: Ints, images: Tensor, labels: Tensor) -> float:
        logits = judge.supernet.outputs(contest.table.choice(choice), images)
        accuracy: float = (logits.argmax(1) == labels).float().mean().item()
        return accuracy - self.penalty * contest.excess(choice)

    def _finalists(self, context: Context, contest: Contest, controller: Controller) -> list[Ints]:
        """Return different samples of the controller within the limits."""
        generator = torch.Generator().manual_seed(derived_seed(context.seed, self.name, str(self.budget)) % 2**31)
        found: dict[tuple[int, ...], Ints] = {}
        with torch.no_grad():
            for _ in range(_DRAWS * self.finalists):
                if len(found) >= self.finalists:
                    break
                choice = controller.sample(generator)[0]
                if contest.within(choice):
                    found.setdefault(tuple(choice.tolist()), choice)
        if not found:
            raise InfeasibleError(
                f"the controller has not learned to keep budget {self.budget} in {self.steps} steps; "
                "give more steps, a larger penalty or a larger --budget"
            )
        return list(found.values())

    def _file(self, context: Context, contest: Contest, judge: Judge) -> str:
        options = [self.steps, self.networks_per_step, self.search_batch_size, self.learning_rate, self.entropy]
        return search_file(context, contest, judge, "reinforce", [*options, self.penalty])
