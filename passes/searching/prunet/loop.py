"""The search's steps: weights and probabilities in turn, fewer operations from look to look."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....transformer.contracts.context import Context
from ....transformer.data.images import batches, size
from ....transformer.data.splits import changed_part, split
from ....transformer.errors import UsageError
from ....transformer.tools.seeds import derived_seed
from ...finetuning.labels import objective_of
from ...finetuning.recipe import FinetuneRecipe
from ...networks.placement import placed
from ...networks.threads import threads_worth
from ..base import table_digest, trained_as
from ..contest import Contest
from .layer import Place, Share
from .options import Prunet
from .price import Price
from .state import SearchState
from .supernet import TrainedSupernet
from .walk import Walk

_LOOKS = 50
"""How often operations may leave, evenly over the search after the warm-up."""
_RECIPE = FinetuneRecipe(epochs=1, steps=1, batch_size=2, learning_rate=1.0, seed=0, start="")
"""Whose loss is taken: that of fine-tuning."""
_PART = 5
"""One of so many images trains the probabilities, all others the weights."""


class PrunetSearch:
    """Trains weights and architecture together, on the part of the data that ranking does not judge by."""

    def __init__(self, context: Context, contest: Contest, options: Prunet) -> None:
        """Prepare the search within the limits of ``contest``; one that was stopped goes on where it was.

        Raises:
            UsageError: options that cannot work, or too few images.
        """
        options.checked()
        self.context, self.contest, self.options = context, contest, options
        self._fit = split(context.dataset, context.seed).fit
        self._changed = changed_part(context.dataset, self._fit)
        order = torch.randperm(size(self._fit), generator=self._generator("images"))
        self.judged, self._trained = order[: len(order) // _PART], order[len(order) // _PART :]
        if min(len(self.judged), options.search_batch_size) < 2:
            raise UsageError(f"prunet searches on {size(self._fit)} images, expected at least {2 * _PART}")
        self.steps = options.length(size(self._fit))
        self._warm = round(options.warm_up * self.steps)
        self.price = Price.of(context.store, contest)
        walk, scratch = Walk(1, corner=options.corner), options.scratch
        self.supernet = TrainedSupernet(context, contest.table, options.most, walk, scratch)
        self.most = max(len(place.ladders) for place in self.supernet.places)
        self.recipe = self._recipe()
        file = f"checkpoints/prunet-{self.recipe}.safetensors"
        self.state = SearchState(context, self.supernet, file, options.weights_rate, options.probabilities_rate)
        self._objective = objective_of(context.dataset.task, replace(_RECIPE, distillation=0.0) if scratch else _RECIPE)

    def run(self, name: str) -> None:
        """Take the steps that are left; ``name`` is told of the work."""
        context = self.context
        self._teacher = context.teacher.network.eval()
        graph = context.teacher
        with threads_worth(graph, self.options.search_batch_size), placed(context.device, graph.module, graph.network):
            self.state.go_on(self.steps, name, self._step)

    @property
    def progress(self) -> float:
        """Share of the search after the warm-up that is done."""
        return (self.state.clock.step - self._warm) / max(1, self.steps - self._warm)

    def _step(self) -> None:
        step = self.state.clock.step
        generator = self._generator("step", str(step))
        places = self.supernet.places
        before = self.supernet.runs
        if step < self._warm:
            pairs = [place.even(place.noise(generator)) for place in places]
            self._train_weights(generator, pairs)
        elif (step - self._warm) % self.options.every == 0:
            self._train_probabilities(generator)
        else:
            self._train_weights(generator, [self._drawn(place, generator) for place in places])
        self.state.clock.runs += self.supernet.runs - before
        self._look()

    def _drawn(self, place: Place, generator: torch.Generator) -> tuple[list[Share], list[Share]]:
        noise, options = place.noise(generator), self.options
        if options.paths == "mixture":
            with torch.no_grad():
                shares = place.mixture(noise, options.temperature, self._factors)[0]
            return shares, shares
        return place.drawn(noise, self._factors)

    @property
    def _factors(self) -> tuple[float, float]:
        return self.options.skip_factor, self.options.block_factor

    def _train_weights(self, generator: torch.Generator, pairs: Sequence[tuple[list[Share], list[Share]]]) -> None:
        options, state = self.options, self.state
        images, targets = self._sample(self._trained, generator, augmented=True)
        _set_rate(state.weights, options.weights_rate * _cosine(state.clock.step / self.steps))
        state.weights.zero_grad()
        firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
        alike = options.paths == "mixture" or all(_same(a, b) for a, b in pairs)
        plans = [firsts] if alike or options.paths == "sampled" else [firsts, seconds]
        losses = [self._loss(plan, images, targets, options.features) for plan in plans]
        loss = torch.stack(losses).sum()
        if not (loss.requires_grad and math.isfinite(loss.item())):
            return  # nothing of the drawn operations is trained, or a batch that broke it: no step is better than this
        loss.backward()  # type: ignore[no-untyped-call]
        state.weights.step()

    def _train_probabilities(self, generator: torch.Generator) -> None:
        options, state, places = self.options, self.state, self.supernet.places
        images, targets = self._sample(self.judged, generator)
        mixed = [place.mixture(place.noise(generator), options.temperature, self._factors) for place in places]
        ms = torch.stack([part for _, part in mixed]).sum()
        clock = state.clock
        if clock.alpha == 0:
            clock.alpha = options.alpha or self.price.start(ms.item())
        loss = self._loss([shares for shares, _ in mixed], images, targets, 0.0) + self.price.term(ms, clock.alpha)
        gradients = torch.autograd.grad(loss, state.searched, allow_unused=True)
        _set_rate(state.probabilities, options.probabilities_rate * _cosine(self.progress))
        for tensor, gradient in zip(state.searched, gradients, strict=True):
            tensor.grad = torch.zeros_like(tensor) if gradient is None else gradient.nan_to_num(0.0)
        state.probabilities.step()
        for place in places:
            place.advance(self.progress)
        clock.loss = loss.item()
        if not options.alpha:
            clock.alpha = self.price.ascended(clock.alpha, self.expected_ms())

    def expected_ms(self) -> float:
        """Return the expected sum of the rows (ms), without noise."""
        places = self.supernet.places
        still = [place.mixture(torch.zeros(len(place.theta) + 2 * len(place.ladders)), 1.0, (1, 1)) for place in places]
        return torch.stack([ms for _, ms in still]).sum().item()

    def _loss(self, plan: Sequence[Sequence[Share]], images: Tensor, targets: Any, features: float) -> Tensor:
        """Return the mean loss of a batch in the network that ``plan`` makes of the supernet."""
        supernet = self.supernet
        supernet.plan(plan)
        supernet.watch(features > 0)
        loss = self._objective(supernet.module, self._teacher, images, targets)
        loss = loss + features * supernet.error() if features > 0 else loss
        supernet.watch(False)
        return loss

    def _look(self) -> None:
        """Let operations leave, where this step is one at whose end they may."""
        done = self.state.clock.step + 1 - self._warm
        total = max(1, self.steps - self._warm)
        looks = min(_LOOKS, total)
        if done <= 0 or done * looks // total == (done - 1) * looks // total:
            return
        for index, place in enumerate(self.supernet.places):
            gone = place.look(done / total, self.most, self.options.pruning)
            if gone:
                self.state.leave(index, gone)
        self.state.way.append(told(self.supernet.places))

    def _sample(self, part: Tensor, generator: torch.Generator, augmented: bool = False) -> tuple[Tensor, Any]:
        """Return a batch of the images of ``part``, drawn without putting back."""
        indices = part[torch.randperm(len(part), generator=generator)[: self.options.search_batch_size]]
        seed = int(torch.randint(2**31, (1,), generator=generator))
        source = self._changed(seed) if augmented and self._changed is not None else self._fit
        return next(batches(source, len(indices), indices, self.context.device))

    def sample(self, count: int) -> tuple[Tensor, Any]:
        """Return the first ``count`` images that the probabilities are trained on."""
        indices = self.judged[:count]
        return next(batches(self._fit, len(indices), indices, self.context.device))

    def _generator(self, *names: str) -> torch.Generator:
        draw = [str(self.options.draw)] if self.options.draw else []
        return torch.Generator().manual_seed(derived_seed(self.context.seed, "prunet", *names, *draw) % 2**31)

    def _recipe(self) -> str:
        """Return the fingerprint of all that decides the search's result."""
        trained = trained_as(self.context.store)
        facts: list[object] = [self.context.seed, self.options.deciding, self.steps, dict(self.contest.limits), trained]
        facts += ["scratch"] if self.options.scratch else []
        facts += [table_digest(self.contest.table), vars(self.price), size(self._fit), self.context.dataset.task.name]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def told(places: Sequence[Place]) -> list[float]:
    """Return what the figure shows of a moment: each layer's probability of every choice, and its Prunodes' widths."""
    row: list[float] = []
    for place in places:
        shares = dict(zip(place.alive, place.probabilities().tolist(), strict=True))
        row += [shares.get(choice, 0.0) for choice in (*range(len(place.ladders)), -1)]
        row += [float(rung) for walk in place.walks for rung in (walk.small, walk.large)]
    return row


def _same(first: Sequence[Share], second: Sequence[Share]) -> bool:
    return [(share.choice, share.rung) for share in first] == [(share.choice, share.rung) for share in second]


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
