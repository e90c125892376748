"""Where a long search is after some steps, as one durable file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...transformer.contracts.context import Context
from ...transformer.contracts.store import Store

_SAVE_EVERY = 20
"""Steps between durable states."""


class SearchState:
    """Parameters under search with Adam, its steps and its CPU time; continues from its file to the same bits."""

    def __init__(self, store: Store, file: str, parameters: Sequence[Tensor], learning_rate: float) -> None:
        self._store, self._file, self._parameters = store, file, list(parameters)
        self.optimizer = torch.optim.Adam(self._parameters, lr=learning_rate)
        self.step = 0
        self.seconds = 0.0
        """CPU time of earlier processes."""
        self.extra = torch.zeros(1, dtype=torch.float64)
        """What else the search remembers."""
        if store.path(file).exists():
            self._restore()

    def go_on(self, steps: int, context: Context, name: str, take: Callable[[], None]) -> None:
        """Take steps until there are ``steps``; the file is written every so many, and at the end."""
        started = time.process_time()
        with context.progress.task(name, steps) as task:
            task.advance(self.step)
            while self.step < steps:
                take()
                self.step += 1
                task.advance()
                if self.step % _SAVE_EVERY == 0 or self.step == steps:
                    self.save(self.seconds + time.process_time() - started)

    def save(self, seconds: float) -> None:
        """Write everything; ``seconds`` is the CPU time of the search so far, earlier processes included."""
        tensors = {f"parameter.{i}": tensor for i, tensor in enumerate(self._parameters)}
        for i, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in entry.items()}
        tensors["extra"] = self.extra
        tensors["clock"] = torch.tensor([float(self.step), seconds], dtype=torch.float64)
        self._store.save_tensors(self._file, tensors)

    def _restore(self) -> None:
        tensors = self._store.load_tensors(self._file)
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for i, parameter in enumerate(self._parameters):
                parameter.copy_(tensors[f"parameter.{i}"])
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.extra = tensors["extra"]
        step, self.seconds = tensors["clock"].tolist()
        self.step = int(step)
