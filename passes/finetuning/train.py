"""The epochs of a training of the whole student: train, examine, keep the best and the last, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...transformer.contracts.context import Context
from ...transformer.data.splits import changed_part
from ..networks.placement import placed
from ..networks.threads import threads_worth
from .examine import Examiner, Found, Parts
from .lesson import Lesson
from .loop import Loop
from .parallel import Parallel
from .recipe import TrainingRecipe
from .records import EpochRecord
from .state import EPOCH, FinetuneState
from .trial import share_of_rate


@dataclass
class Training:
    """One training of a student of a run, in all processes of the job; the main one writes."""

    context: Context
    recipe: TrainingRecipe
    parts: Parts
    workers: int = 0
    """Processes that read images, for each that trains; 0 reads in between the steps."""
    save_seconds: float = 180.0
    """Time after which an epoch in training is made durable and goes on from there."""
    durable: bool = True
    """False for a trial that leaves nothing in the run."""
    examiner: Examiner | None = None
    """Tells what a state is worth; one of a single student if left out."""

    def __post_init__(self) -> None:
        self.parallel = Parallel(self.context.device)
        usual = self.context, self.parts.judges, self.recipe.augment, *self.recipe.judged
        self._examiner = self.examiner or Examiner(*usual)

    def run(
        self, network: nn.Module, lesson: Lesson, fresh: Callable[[], torch.optim.Optimizer]
    ) -> tuple[FinetuneState, str]:
        """Train ``network``, which ``lesson`` is about, from where the run has it.

        ``fresh`` makes a new optimizer. Returns the last state, which holds the best weights, and why it stopped early,
        or nothing.
        """
        context, recipe, teacher = self.context, self.recipe, self.context.teacher
        with (
            placed(context.device, teacher.network, teacher.module),
            layout(recipe, teacher.module, network),
            threads_worth(teacher, recipe.batch_size // recipe.parts),
        ):
            state = self._begin(network, fresh())
            changed = changed_part(context.dataset, self.parts.fit) if recipe.augment else None
            augment = context.dataset.augment if recipe.augment else None
            loop = Loop(
                state,
                lesson,
                recipe,
                self.parts.fit,
                augment,
                context.device,
                self.parallel,
                changed,
                self.workers,
            )
            if not state.share and recipe.total:
                state.share = share_of_rate(loop, fresh, lambda one: self._examiner.examine(one, self.parallel))
            self._save(state)
            return state, self._epochs(loop)

    def _begin(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> FinetuneState:
        """Return the state to go on from: that of the run if it has one, else ``network`` as it is."""
        kind = self.context.device.type
        scaler = torch.amp.GradScaler(kind, enabled=self.recipe.mixed_precision == "fp16")
        columns = (*EPOCH, *self._examiner.students)
        share = 0.0 if self.recipe.tried else 1.0
        state = FinetuneState(network, optimizer, scaler=scaler, share=share, columns=columns)
        if self.durable and self.context.store.path(self.recipe.checkpoint).exists():
            state.restore(self.context.store, self.recipe.checkpoint)
        else:
            state.offer(dict(network.state_dict()), self._examine(state, {}))
        self.parallel.wait()  # until all have read what the main process will write again
        if self.durable:
            for key, record in self.context.store.all(EpochRecord).items():
                if record.stage == self.recipe.name:
                    self.context.store.delete(EpochRecord, key)
            for epoch in range(state.epoch + 1):
                self._record(state, epoch)
        return state

    def _epochs(self, loop: Loop) -> str:
        """Run the epochs that are left; return why it stopped early, or nothing.

        A loss or weights that are no numbers end the training: the state goes back to the last one that was saved.
        """
        recipe, state = self.recipe, loop.state
        with self.context.progress.task(recipe.name, recipe.total) as task:
            task.advance(state.epoch * recipe.steps + state.step)
            for epoch in range(state.epoch, recipe.epochs):
                loss = loop.epoch(task.advance, lambda: self._pause(state))
                trouble = _trouble(loss, state)
                if trouble:
                    if self.durable:
                        state.restore(self.context.store, recipe.checkpoint)
                    return f"stopped in epoch {epoch + 1}: {trouble}; the best weights before it are kept"
                found = self._finish(state, loss)
                told = f"held out {self.context.metric.text(found.accuracy)}, divergence {found.divergence:.4g}"
                each = [f"{name} {self.context.metric.text(a)}" for name, a in self._examiner.accuracies().items()]
                task.advance(0, "; ".join([f"epoch {epoch + 1}: loss {loss:.3f}, {told}", *each]))
                assert state.found is not None, "the start was offered"
                trouble = self._examiner.trouble(state.found)
                if trouble:
                    return f"stopped after epoch {epoch + 1}: {trouble}; the best weights before it are kept"
        return ""

    def _pause(self, state: FinetuneState) -> None:
        if time.monotonic() - self._saved >= self.save_seconds and self.parallel.main and not _trouble(0.0, state):
            self._save(state)

    def _save(self, state: FinetuneState) -> None:
        if self.durable:
            state.save(self.context.store, self.recipe.checkpoint)
        self._saved = time.monotonic()

    def _finish(self, state: FinetuneState, loss: float) -> Found:
        """Examine after an epoch, and make it durable."""
        started = time.perf_counter()
        found = self._examine(state, state.last)
        state.finish_epoch(
            {
                "train_loss": loss,
                "held_out_accuracy": found.accuracy,
                "held_out_loss": found.loss,
                "divergence": found.divergence,
                "learning_rate": state.share * self.recipe.rate((state.epoch + 1) * self.recipe.steps - 1),
                "seconds": state.seconds + time.perf_counter() - started,
                **self._examiner.accuracies(),
            }
        )
        state.offer(state.last, found, state.epoch * self.recipe.steps)
        self._save(state)
        if self.durable:
            self._record(state, state.epoch)
        return found

    def _examine(self, state: FinetuneState, weights: dict[str, Tensor]) -> Found:
        """Return what the network with ``weights`` is worth; it keeps its own."""
        with _lent(state.network, weights if state.average else {}):
            return self._examiner.examine(state.network, self.parallel)

    def _record(self, state: FinetuneState, epoch: int) -> None:
        """Put what is known of an epoch into the run; 0 stands for the start."""
        assert state.start is not None, "begin offers it"
        start = {"held_out_accuracy": state.start.accuracy, "divergence": state.start.divergence}
        row = state.history[epoch - 1] if epoch else start
        record = EpochRecord(
            stage=self.recipe.name,
            epoch=epoch,
            train_loss=row.get("train_loss"),
            held_out_accuracy=row["held_out_accuracy"],
            divergence=row["divergence"],
            learning_rate=row.get("learning_rate", 0.0),
            seconds=row.get("seconds", 0.0),
            recipe=self.recipe.fingerprint,
            students={name: row[name] for name in self._examiner.students} if epoch else {},
        )
        self.context.store.put(f"{self.recipe.name}/{epoch:04d}", record)


def _trouble(loss: float, state: FinetuneState) -> str:
    """Return in words what is no number; nothing where all is well."""
    if not math.isfinite(loss) or not math.isfinite(state.loss.item()):
        return f"the loss is {loss if not math.isfinite(loss) else state.loss.item()}"
    return "" if state.finite else "a weight is no number"


@contextmanager
def _lent(network: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Give the network other weights for a while; none for its own."""
    if not weights:
        yield
        return
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)


@contextmanager
def layout(recipe: TrainingRecipe, *networks: nn.Module) -> Iterator[None]:
    """Keep weights with the channels last, where the recipe says so."""
    if not recipe.channels_last:
        yield
        return
    for network in networks:
        network.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for network in networks:
            network.to(memory_format=torch.contiguous_format)
