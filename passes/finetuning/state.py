"""The state of a training of the whole student between steps, as one durable file."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...transformer.contracts.store import Store
from .examine import Found, least_right

EPOCH = ("train_loss", "held_out_accuracy", "held_out_loss", "divergence", "learning_rate", "seconds")
"""What is kept of every epoch, in this order."""


@dataclass
class FinetuneState:
    """Weights, optimizer, moving average, the best weights so far, and what each epoch gave."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    """Moving average of the network's state; empty where there is none."""
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    """0 for the start."""
    start: Found | None = None
    """What the start is worth, and what ..."""
    found: Found | None = None
    """... the best weights are."""
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
    share: float = 1.0
    """Of the recipe's rate; 0 where a trial is to find it (``trial.py``)."""
    columns: tuple[str, ...] = EPOCH
    """What is kept of an epoch, in this order."""

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def offer(self, state: dict[str, Tensor], found: Found, steps: int = 0) -> None:
        """Keep ``state`` if it diverges least and lost no more right answers than its steps make up for.

        The start is one of the states.
        """
        if self.epoch == 0 or self.start is None:
            self.start = found
        better = self.found is None or found.divergence < self.found.divergence
        if better and found.right >= least_right(self.start, steps):
            self.best = {name: tensor.detach().clone() for name, tensor in state.items()}
            self.found, self.best_epoch = found, self.epoch

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
        rows = [[row[name] for name in self.columns] for row in self.history]
        tensors["history"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(self.columns))
        for name, found in (("start", self.start), ("found", self.found)):
            tensors[name] = torch.tensor([] if found is None else astuple(found), dtype=torch.float64)
        tensors["best_epoch"] = torch.tensor(self.best_epoch)
        tensors["progress"] = torch.tensor([self.step, self.seconds, self.share], dtype=torch.float64)
        tensors |= {"loss": self.loss, "drawn": self.drawn}
        if self.scaler.is_enabled():
            scaled = self.scaler.state_dict()
            tensors["scaler"] = torch.tensor([scaled["scale"], scaled["_growth_tracker"]], dtype=torch.float64)
        store.save_tensors(file, tensors)

    def restore(self, store: Store, file: str) -> None:
        """Continue from ``file``: every later step is the same to the bit as without the stop."""
        tensors = store.load_tensors(file)
        self.network.load_state_dict(_under(tensors, "network"))
        device = next(self.network.parameters()).device
        self.average = {name: tensor.to(device) for name, tensor in _under(tensors, "average").items()}
        self.best = _under(tensors, "best")
        state: dict[int, dict[str, Any]] = {}
        parameters = [p.detach() for group in self.optimizer.param_groups for p in group["params"]]
        for name, tensor in _under(tensors, "optimizer").items():
            index, key = name.split(".", 1)
            # As its parameter in memory: a fused optimizer walks through both side by side.
            like = parameters[int(index)]
            state.setdefault(int(index), {})[key] = (
                torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
            )
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.history = [dict(zip(self.columns, row, strict=True)) for row in tensors["history"].tolist()]
        self.start, self.found = (Found(*tensors[name].tolist()) for name in ("start", "found"))
        self.best_epoch = int(tensors["best_epoch"])
        step, self.seconds, self.share = tensors["progress"].tolist()
        self.step, self.loss, self.drawn = int(step), tensors["loss"].to(device), tensors["drawn"]
        if self.scaler.is_enabled():
            scale, tracker = tensors["scaler"].tolist()
            found = self.scaler.state_dict() | {"scale": scale, "_growth_tracker": int(tracker)}
            self.scaler.load_state_dict(found)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
