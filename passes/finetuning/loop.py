"""The steps of fine-tuning: cross-entropy and distillation from the teacher (HANT section 2.2 and A.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...transformer.contracts.data import Sample
from ...transformer.contracts.task import Classification, Task
from ...transformer.data.images import batches, shuffled, size
from ...transformer.tools.seeds import derived_seed
from .parallel import Parallel
from .recipe import FinetuneRecipe
from .state import FinetuneState

Augment = Callable[[Tensor, torch.Generator], Tensor]
Objective = Callable[[nn.Module, nn.Module, Tensor, Any], Tensor]
"""Mean loss of a batch, from the student, the teacher, the images (N, C, H, W) and what the data say of them."""

_CHECK_EVERY = 25
"""Steps between looks at whether the loss is still a number (a look waits for the device)."""
_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def loss_of(logits: Tensor, labels: Tensor, taught: Tensor, recipe: FinetuneRecipe) -> Tensor:
    """Return gamma_CE x cross-entropy + gamma_KL x KL(teacher || student); logits and ``taught`` are (N, classes)."""
    logits, taught = (x.float() if x.dtype.itemsize < 4 else x for x in (logits, taught))
    loss = recipe.cross_entropy * F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if recipe.distillation:
        divergence = F.kl_div(
            F.log_softmax(logits, 1), F.log_softmax(taught, 1), reduction="batchmean", log_target=True
        )
        loss = loss + recipe.distillation * divergence
    return loss


def objective_of(task: Task, recipe: FinetuneRecipe) -> Objective:
    """Return what training makes small: the task's own loss; for classification the paper's, with its factors."""

    def objective(student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            taught = teacher(images) if recipe.distillation else images
        return loss_of(student(images), labels, taught, recipe)

    return objective if isinstance(task, Classification) else task.train_loss


@dataclass
class Loop:
    """Trains a student from where its state is. Each epoch depends on the seed and its number alone."""

    state: FinetuneState
    teacher: nn.Module
    recipe: FinetuneRecipe
    dataset: Dataset[Sample]
    augment: Augment | None
    device: torch.device
    parallel: Parallel
    objective: Objective
    changed: Callable[[int], Dataset[Sample]] | None = None
    """From a seed, ``dataset`` with every image augmented anew; trained on in its place."""
    workers: int = 0
    """Processes that read images; 0 reads in this one."""

    def __post_init__(self) -> None:
        self._student = self.parallel.wrap(self.state.network)
        self._teacher = self.teacher
        if self.recipe.compiled:
            compiled = torch.compile(self._student), torch.compile(self._teacher)
            self._student, self._teacher = cast(tuple[nn.Module, nn.Module], compiled)
        self._rows = self.parallel.part(self.recipe.batch_size // self.recipe.parts)
        self._generator = torch.Generator()

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
        state.network.train()
        self.teacher.eval()

    def _seed(self, *names: object) -> int:
        return derived_seed(self.recipe.seed, "finetune", str(self.state.epoch), *map(str, names)) % 2**31

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
        for index, (images, labels) in enumerate(parts):
            with self.parallel.step(self._student, last=index == recipe.parts - 1):
                loss = self._loss(self._augmented(images), labels) / recipe.parts
                self.parallel.backward(state.scaler.scale(loss))
            state.loss += self.parallel.mean(loss.detach())
        count = state.epoch * recipe.steps + step
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.rate(count)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if recipe.ema:
            _average(state, recipe.ema, count)

    def _loss(self, images: Tensor, labels: Any) -> Tensor:
        kind = _TYPES[self.recipe.mixed_precision]
        if self.recipe.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, kind, enabled=kind != torch.float32), self.parallel.norm():
            return self.objective(self._student, self._teacher, images, labels)

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
