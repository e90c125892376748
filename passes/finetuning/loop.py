"""The steps of a training of the whole student, whatever it is trained on."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...transformer.contracts.data import Sample
from ...transformer.data.images import batches, shuffled, size
from ...transformer.tools.seeds import derived_seed
from .lesson import Lesson
from .parallel import Parallel
from .recipe import TrainingRecipe
from .state import FinetuneState

Augment = Callable[[Tensor, torch.Generator], Tensor]

_CHECK_EVERY = 25
"""Steps between looks at whether the loss is still a number (a look waits for the device)."""
_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Loop:
    """Trains a student from where its state is. Each epoch depends on the seed and its number alone."""

    state: FinetuneState
    lesson: Lesson
    recipe: TrainingRecipe
    dataset: Dataset[Sample]
    augment: Augment | None
    device: torch.device
    parallel: Parallel
    changed: Callable[[int], Dataset[Sample]] | None = None
    """From a seed, ``dataset`` with every image augmented anew; trained on in its place."""
    workers: int = 0
    """Processes that read images; 0 reads in this one."""

    def __post_init__(self) -> None:
        self._learner = self.parallel.wrap(self.lesson.learner)
        if self.recipe.compiled:
            self._learner = cast(nn.Module, torch.compile(self._learner))
        self._rows = self.parallel.part(self.recipe.batch_size // self.recipe.parts, self.recipe.name.partition("-")[0])
        self._generator = torch.Generator()

    def beside(self, state: FinetuneState, recipe: TrainingRecipe) -> Loop:
        """Return a loop of another state of the same student, with a recipe of the same batches."""
        other = copy.copy(self)
        other.state, other.recipe = state, recipe
        return other

    def epoch(self, done: Callable[[], Any] = lambda: None, pause: Callable[[], Any] = lambda: None) -> float:
        """Train to the end of the epoch and return its mean loss, which is not finite if any step's was not.

        ``done`` is called after each step, and ``pause`` too: there the state is whole and may be saved.
        """
        state, recipe = self.state, self.recipe
        self._begin()
        started, before = time.perf_counter(), state.seconds
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for step, parts in enumerate(self._batches(), start=state.step):
                self._step(step, parts)
                state.step, state.drawn = step + 1, self._generator.get_state()
                state.seconds = before + time.perf_counter() - started
                done()
                if step % _CHECK_EVERY == 0 and not math.isfinite(state.loss.item()):
                    break
                pause()
        return state.loss.item() / recipe.steps

    def _begin(self) -> None:
        """Go to where the state is in the epoch."""
        state = self.state
        if state.step:
            self._generator.set_state(state.drawn)
        else:
            self._generator.manual_seed(self._seed())
        state.loss = state.loss.to(self.device)
        self.lesson.begin()

    def _seed(self, *names: object) -> int:
        return derived_seed(self.recipe.seed, self.recipe.name, str(self.state.epoch), *map(str, names)) % 2**31

    def _batches(self) -> Iterator[list[tuple[Tensor, Any]]]:
        """Yield this process's rows of every batch that is left, part by part."""
        state, recipe = self.state, self.recipe
        order = shuffled(size(self.dataset), self._seed(), state.epoch)[: recipe.steps * recipe.batch_size]
        rows = order.view(recipe.steps, recipe.parts, -1)[state.step :, :, self._rows]
        dataset = self.dataset if self.changed is None else self.changed(self._seed("augment"))
        found = batches(dataset, rows.shape[2], rows.flatten(), self.device, workers=self.workers)
        for _ in range(len(rows)):
            yield [next(found) for _ in range(recipe.parts)]

    def _step(self, step: int, parts: list[tuple[Tensor, Any]]) -> None:
        state, recipe = self.state, self.recipe
        # Dropout draws from the step's own numbers, so that it goes on in the middle of an epoch.
        torch.manual_seed(self._seed(step, self.parallel.rank))
        state.optimizer.zero_grad()
        count = state.epoch * recipe.steps + step
        turns = self.lesson.turns(count)
        for index, (images, labels) in enumerate(parts):
            augmented = self._augmented(images)
            for turn in range(turns):
                last = index == recipe.parts - 1 and turn == turns - 1
                self.lesson.turn(turn)
                with self.parallel.step(self._learner, last):
                    loss = self._loss(augmented, labels) / recipe.parts
                    self.parallel.backward(state.scaler.scale(loss))
                state.loss += self.parallel.mean(loss.detach())
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.rate(count) * state.share
        state.scaler.unscale_(state.optimizer)
        self.lesson.shape()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if recipe.ema:
            _average(state, recipe.ema, count)

    def _loss(self, images: Tensor, labels: Any) -> Tensor:
        kind = _TYPES[self.recipe.mixed_precision]
        if self.recipe.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, kind, enabled=kind != torch.float32), self.parallel.norm():
            return self.lesson.loss(self._learner, images, labels)

    def _augmented(self, images: Tensor) -> Tensor:
        """Return augmented images; what the other processes' images draw is drawn here too, for blank ones."""
        if self.augment is None:
            return images
        if self.parallel.count == 1:
            return self.augment(images, self._generator)
        batch = images.new_zeros(len(images) * self.parallel.count, *images.shape[1:])
        batch[self._rows] = images
        return self.augment(batch, self._generator)[self._rows]


@torch.no_grad()
def _average(state: FinetuneState, decay: float, step: int) -> None:
    """Move the average towards the weights, faster in the first steps, so that it forgets the start."""
    current = state.network.state_dict()
    if not state.average:
        state.average = {name: tensor.clone() for name, tensor in current.items()}
    share = 1 - min(decay, (1 + step) / (10 + step))
    for name, tensor in current.items():
        if tensor.is_floating_point():
            state.average[name].lerp_(tensor, share)
        else:
            state.average[name].copy_(tensor)
