"""The state of a fine-tuning between steps, as one durable file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...transformer.contracts.store import Store
from ...transformer.contracts.task import Metric

_EPOCH = ("train_loss", "held_out_accuracy", "held_out_loss", "learning_rate", "seconds")
"""What is kept of an epoch, in this order."""


@dataclass
class FinetuneState:
    """Weights, optimizer, moving average, the best weights so far, and what each epoch gave."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    """Moving average of the network's state; empty where there is none."""
    best: dict[str, Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    """Scale of the loss; in use with fp16 only."""
    step: int = 0
    """Finished steps of the epoch in training."""
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Sum of the losses of those steps."""
    drawn: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.uint8))
    """State of the generator of augmentations after those steps."""
    seconds: float = 0.0
    """Time of those steps."""

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def offer(self, state: dict[str, Tensor], accuracy: float, loss: float, metric: Metric) -> None:
        """Keep ``state`` as the best if it has the best held-out ``metric``, among equals the lowest loss.

        Any epoch that did not ruin the network, by half of the metric, comes before the start. The teacher was trained
        on images that are held out here, and its blocks may know them by heart: a CIFAR-10 student began with 96.8 % of
        them and 90.4 % of the test images, and ended with 94.3 % and 91.1 %.
        """
        gain, best = metric.gain(accuracy), metric.gain(self.best_accuracy)
        sound = self.best_epoch == 0 and self.epoch > 0 and gain > best - abs(best) / 2
        if not self.best or sound or (gain, -loss) > (best, -self.best_loss):
            self.best = {name: tensor.detach().clone() for name, tensor in state.items()}
            self.best_accuracy, self.best_loss, self.best_epoch = accuracy, loss, self.epoch

    @property
    def last(self) -> dict[str, Tensor]:
        """The weights as they are: the moving average where there is one."""
        return self.average or dict(self.network.state_dict())

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(t.isfinite().all()) for t in self.network.state_dict().values() if t.is_floating_point())

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Take the epoch into the history; the next one begins."""
        self.history.append(row)
        self.step, self.seconds, self.loss = 0, 0.0, torch.zeros_like(self.loss)

    def save(self, store: Store, file: str) -> None:
        """Write everything to ``file`` of the run, atomically."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in entry.items() if isinstance(v, Tensor)}
        rows = [[row[name] for name in _EPOCH] for row in self.history]
        tensors["history"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(_EPOCH))
        tensors["found"] = torch.tensor([self.best_accuracy, self.best_loss, self.best_epoch], dtype=torch.float64)
        tensors["progress"] = torch.tensor([self.step, self.seconds], dtype=torch.float64)
        tensors |= {"loss": self.loss, "drawn": self.drawn}
        if self.scaler.is_enabled():
            found = self.scaler.state_dict()
            tensors["scaler"] = torch.tensor([found["scale"], found["_growth_tracker"]], dtype=torch.float64)
        store.save_tensors(file, tensors)

    def restore(self, store: Store, file: str) -> None:
        """Continue from ``file``: every later step is the same to the bit as without the stop."""
        tensors = store.load_tensors(file)
        self.network.load_state_dict(_under(tensors, "network"))
        device = next(self.network.parameters()).device
        self.average = {name: tensor.to(device) for name, tensor in _under(tensors, "average").items()}
        self.best = _under(tensors, "best")
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in _under(tensors, "optimizer").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.history = [dict(zip(_EPOCH, row, strict=True)) for row in tensors["history"].tolist()]
        accuracy, loss, epoch = tensors["found"].tolist()
        self.best_accuracy, self.best_loss, self.best_epoch = accuracy, loss, int(epoch)
        step, self.seconds = tensors["progress"].tolist()
        self.step, self.loss, self.drawn = int(step), tensors["loss"].to(device), tensors["drawn"]
        if self.scaler.is_enabled():
            scale, tracker = tensors["scaler"].tolist()
            found = self.scaler.state_dict() | {"scale": scale, "_growth_tracker": int(tracker)}
            self.scaler.load_state_dict(found)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
