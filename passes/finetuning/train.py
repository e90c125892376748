"""The epochs of a fine-tuning: train, evaluate, keep the best and the last, save."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...transformer.contracts.context import Context
from ...transformer.contracts.data import Sample
from ..networks.evaluate import Metrics, mean, tally
from .loop import Loop
from .parallel import Parallel
from .recipe import FinetuneRecipe
from .records import EpochRecord
from .state import FinetuneState

_BATCH = 256
"""Images of an evaluation at a time."""


def checkpoint(recipe: FinetuneRecipe) -> str:
    """Return the file, relative to the run, that holds the last good state."""
    return f"checkpoints/finetune-{recipe.fingerprint}.safetensors"


@dataclass
class Training:
    """One fine-tuning of a run, in all processes of the job; the main one writes."""

    context: Context
    recipe: FinetuneRecipe
    parallel: Parallel
    held_out: Dataset[Sample]
    save_seconds: float

    def begin(self, network: nn.Module) -> FinetuneState:
        """Return the state to go on from: that of the run if it has one, else ``network`` as it is."""
        network = network.to(self.context.device)
        kind = self.context.device.type
        scaler = torch.amp.GradScaler(kind, enabled=self.recipe.mixed_precision == "fp16")
        state = FinetuneState(network, self.recipe.make_optimizer(network.parameters()), scaler=scaler)
        file = checkpoint(self.recipe)
        if self.context.store.path(file).exists():
            state.restore(self.context.store, file)
        else:
            found = self._evaluate(state, dict(network.state_dict()))
            state.offer(dict(network.state_dict()), found.accuracy, found.loss, self.context.metric)
        self.parallel.wait()  # until all have read what the main process will write again
        self.context.store.delete(EpochRecord)
        for epoch in range(state.epoch):
            self._record(state, epoch)
        self._save(state)
        return state

    def run(self, loop: Loop) -> str:
        """Train the epochs that are left; return why it stopped early, or nothing.

        A loss or weights that are no numbers end the training: the state goes back to the last one that was saved.
        """
        recipe, state = self.recipe, loop.state
        with self.context.progress.task("finetune", recipe.epochs * recipe.steps) as task:
            task.advance(state.epoch * recipe.steps + state.step)
            for epoch in range(state.epoch, recipe.epochs):
                loss = loop.epoch(task.advance, lambda: self._pause(state))
                trouble = _trouble(loss, state)
                if trouble:
                    state.restore(self.context.store, checkpoint(recipe))
                    return f"stopped in epoch {epoch + 1}: {trouble}; the best weights before it are kept"
                found = self._finish(state, loss)
                held_out = self.context.metric.text(found.accuracy)
                task.advance(0, f"epoch {epoch + 1}: loss {loss:.3f}, held out {held_out}")
        return ""

    def _pause(self, state: FinetuneState) -> None:
        if time.monotonic() - self._saved >= self.save_seconds and self.parallel.main and not _trouble(0.0, state):
            self._save(state)

    def _save(self, state: FinetuneState) -> None:
        state.save(self.context.store, checkpoint(self.recipe))
        self._saved = time.monotonic()

    def _finish(self, state: FinetuneState, loss: float) -> Metrics:
        """Evaluate after an epoch, and make it durable."""
        started = time.perf_counter()
        found = self._evaluate(state, state.last)
        state.finish_epoch(
            {
                "train_loss": loss,
                "held_out_accuracy": found.accuracy,
                "held_out_loss": found.loss,
                "learning_rate": self.recipe.rate((state.epoch + 1) * self.recipe.steps - 1),
                "seconds": state.seconds + time.perf_counter() - started,
            }
        )
        state.offer(state.last, found.accuracy, found.loss, self.context.metric)
        self._save(state)
        self._record(state, state.epoch - 1)
        return found

    def _evaluate(self, state: FinetuneState, weights: dict[str, Tensor]) -> Metrics:
        """Return the metrics of the network with ``weights``; it keeps its own. Processes share the batches."""
        with _lent(state.network, weights if state.average else {}):
            rank, count = self.parallel.rank, self.parallel.count
            task = self.context.dataset.task
            own = tally(state.network, self.held_out, _BATCH, self.context.device, task, rank, count)
        found = self.parallel.gather((rank + count * place, counts) for place, counts in enumerate(own))
        return mean(counts for _, counts in sorted(found, key=lambda pair: pair[0]))

    def _record(self, state: FinetuneState, epoch: int) -> None:
        row = state.history[epoch]
        record = EpochRecord(
            epoch=epoch + 1,
            train_loss=row["train_loss"],
            held_out_accuracy=row["held_out_accuracy"],
            learning_rate=row["learning_rate"],
            seconds=row["seconds"],
            recipe=self.recipe.fingerprint,
        )
        self.context.store.put(f"{epoch + 1:04d}", record)


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
def layout(recipe: FinetuneRecipe, *networks: nn.Module) -> Iterator[None]:
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
