"""Where the search is after some steps, as one durable file: a search that was stopped goes on to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ....transformer.contracts.context import Context
from .layer import Place
from .schedule import Layer
from .supernet import TrainedSupernet

_SAVE_EVERY = 25
"""Steps between durable states."""


@dataclass
class Clock:
    """Numbers that the search counts."""

    step: int = 0
    alpha: float = 0.0
    """Price of latency at present; 0 before the first step that asks for it."""
    seconds: float = 0.0
    """CPU time of earlier processes."""
    loss: float = math.nan
    """Of the last step that trained the probabilities, latency's term included."""
    runs: float = 0.0
    """Operations that were run on a batch, in all layers."""


class SearchState:
    """Weights, probabilities and Prunodes under search with their optimizers."""

    def __init__(self, context: Context, supernet: TrainedSupernet, file: str, rate: float, other: float) -> None:
        """Begin anew, or with what ``file`` holds; ``rate`` is that of the weights, ``other`` that of the rest."""
        self._context, self._supernet, self._file = context, supernet, file
        self.clock = Clock()
        self.left: list[tuple[int, int, int]] = []
        """(layer, choice, step) of what left."""
        self.way: list[list[float]] = []
        """At each look what the figure shows: a row of ``told`` numbers."""
        self._named: dict[str, nn.Parameter] = supernet.parameters()
        self.weights = torch.optim.RMSprop(list(self._named.values()) or [torch.zeros(1)], lr=rate, momentum=0.9)
        self.searched = [tensor for place in supernet.places for tensor in (place.theta, place.weights)]
        self.probabilities = torch.optim.Adam(self.searched, lr=other)
        if context.store.path(file).exists():
            self._restore()

    def go_on(self, steps: int, name: str, take: Callable[[], None]) -> None:
        """Take steps until there are ``steps``; the file is written every so many, and at the end."""
        started, before = time.process_time(), self.clock.seconds
        with self._context.progress.task(name, steps) as task:
            task.advance(self.clock.step)
            while self.clock.step < steps:
                take()
                self.clock.step += 1
                task.advance()
                if self.clock.step % _SAVE_EVERY == 0 or self.clock.step == steps:
                    self.clock.seconds = before + time.process_time() - started
                    self._save()

    def leave(self, index: int, choices: Sequence[int]) -> None:
        """Free what left the layer: weights, moments, and its place among what is trained."""
        self.left += [(index, choice, self.clock.step) for choice in choices]
        self._supernet.drop(self._supernet.places[index], choices)
        self._forget()

    def _forget(self) -> None:
        """Take out of the optimizer what is no longer in the supernet."""
        self._named = self._supernet.parameters()
        kept = {id(parameter) for parameter in self._named.values()}
        self.weights.param_groups[0]["params"] = list(self._named.values())
        for parameter in [parameter for parameter in self.weights.state if id(parameter) not in kept]:
            del self.weights.state[parameter]

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {f"weight.{name}": value for name, value in self._named.items()}
        tensors |= {f"buffer.{name}": value for name, value in self._supernet.buffers().items()}
        for name, parameter in self._named.items():
            for key, value in self.weights.state.get(parameter, {}).items():
                tensors[f"moment.{key}.{name}"] = torch.as_tensor(value)
        for index, tensor in enumerate(self.searched):
            tensors[f"searched.{index}"] = tensor
            for key, value in self.probabilities.state.get(tensor, {}).items():
                tensors[f"adam.{key}.{index}"] = torch.as_tensor(value)
        for index, place in enumerate(self._supernet.places):
            walks = [[walk.weight, walk.update, walk.low, walk.high] for walk in place.walks]
            tensors[f"walks.{index}"] = torch.tensor(walks, dtype=torch.float64)
            tensors[f"alive.{index}"] = torch.tensor([int(place.left.skips), *place.alive])
        clock = [float(value) for value in vars(self.clock).values()]
        tensors["clock"] = torch.tensor(clock, dtype=torch.float64)
        tensors["left"] = torch.tensor(self.left, dtype=torch.int64).reshape(-1, 3)
        tensors["way"] = torch.tensor(self.way, dtype=torch.float64)
        self._context.store.save_tensors(self._file, tensors)

    @torch.no_grad()
    def _restore(self) -> None:
        tensors = self._context.store.load_tensors(self._file)
        step, alpha, seconds, loss, runs = tensors["clock"].tolist()
        self.clock = Clock(int(step), alpha, seconds, loss, runs)
        self.left = [(row[0], row[1], row[2]) for row in tensors["left"].tolist()]
        self.way = tensors["way"].tolist()
        for index, place in enumerate(self._supernet.places):
            _restore_place(place, tensors[f"alive.{index}"].tolist(), tensors[f"walks.{index}"].tolist())
            self._supernet.drop(place, [choice for layer, choice, _ in self.left if layer == index])
        self._forget()
        for name, value in {**self._named, **self._supernet.buffers()}.items():
            kind = "weight" if name in self._named else "buffer"
            value.copy_(tensors[f"{kind}.{name}"])
        for name, parameter in self._named.items():
            state = {key: tensors[f"moment.{key}.{name}"] for key in _keys(tensors, "moment", name)}
            if state:
                self.weights.state[parameter] = {
                    key: value.to(parameter.device) if value.ndim else value for key, value in state.items()
                }
        for index, tensor in enumerate(self.searched):
            tensor.copy_(tensors[f"searched.{index}"])
            adam = {key: tensors[f"adam.{key}.{index}"] for key in _keys(tensors, "adam", str(index))}
            if adam:
                self.probabilities.state[tensor] = adam


def _keys(tensors: dict[str, Tensor], kind: str, name: str) -> list[str]:
    """Return the keys of an optimizer's state of one tensor."""
    found = ("step", "square_avg", "momentum_buffer") if kind == "moment" else ("step", "exp_avg", "exp_avg_sq")
    return [key for key in found if f"{kind}.{key}.{name}" in tensors]


def _restore_place(place: Place, alive: Sequence[int], walks: Sequence[Sequence[float]]) -> None:
    place.left = Layer(tuple(alive[1:]), bool(alive[0]))
    place.walks = [
        replace(walk, weight=weight, update=update, low=low, high=high)
        for walk, (weight, update, low, high) in zip(place.walks, walks, strict=True)
    ]
