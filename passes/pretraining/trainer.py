"""One candidate in training."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .nmse import nmse
from .recipe import PAPER_GAMMA, Recipe

_MODULE, _MOMENTUM = "module.", "momentum."
"""Prefixes of the names in a checkpoint."""
_CHECK_EVERY = 25
"""Steps between looks at whether the loss is still a number (a look waits for the device)."""


def half(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Compute in the recipe's precision. Every weight is used once, so none is kept in half precision for later."""
    enabled = recipe.mixed_precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


class Trainer:
    """Trains one candidate to give the teacher's output from the teacher's input (HANT equation 2)."""

    def __init__(self, block: str, operation: str, module: nn.Module, recipe: Recipe, derived: bool = False) -> None:
        self.block = block
        self.operation = operation
        self.module = module
        self.recipe = recipe
        self.derived = derived
        """Whether ``module`` begins with the weights of the block that it imitates."""
        self.failure = ""
        self.seconds = 0.0
        self.steps = 0
        self._loss = torch.zeros(())
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._optimizer = (
            torch.optim.SGD(
                self._parameters,
                lr=recipe.learning_rate,
                momentum=recipe.momentum,
                nesterov=recipe.momentum > 0,
                fused=True,
            )
            if self._parameters
            else None
        )

    def begin(self) -> None:
        """Put the module into the mode that it trains in.

        Of a user's block the batch norms alone: its dropout would be noise on what is to be imitated.
        """
        self.module.train(not self.derived)
        for layer in self.norms if self.derived else ():
            layer.train()

    @property
    def norms(self) -> list[_BatchNorm]:
        """The batch norms that keep statistics."""
        norms = (layer for layer in self.module.modules() if isinstance(layer, _BatchNorm))
        return [layer for layer in norms if layer.running_mean is not None]

    @property
    def trainable(self) -> bool:
        """Whether there is something to train."""
        return self._optimizer is not None

    def step(self, x: Tensor, y: Tensor, variance: Tensor, rate: float | Tensor) -> None:
        """Take one step of length ``rate`` towards ``y`` = teacher(``x``).

        ``variance`` is that of the block's output, a scalar. Nothing here waits for the device or depends on the
        number of the step, so that a GPU can record it once; ``rate`` is a tensor there.
        """
        if self._optimizer is None or self.failure:
            return
        started = time.perf_counter()
        with torch.enable_grad():
            with half(self.recipe, x.device):
                output = self.module(x)
            loss = nmse(output, y, variance if self.recipe.loss == "nmse" else 1 / PAPER_GAMMA)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.unit_length:
            to_unit_length(self._parameters)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._loss = loss.detach()
        self.seconds += time.perf_counter() - started

    def count(self, index: int) -> None:
        """Note that step ``index`` is done, and look now and then whether the loss is still a number."""
        if self._optimizer is None or self.failure:
            return
        self.steps += 1
        looks = index % _CHECK_EVERY == 0 or index == self.recipe.steps - 1
        if looks and not torch.isfinite(self._loss):
            self.failure = f"loss is {self._loss.item()} at step {index + 1} of {self.recipe.steps}"

    def state(self) -> dict[str, Tensor]:
        """Return parameters and buffers."""
        return dict(self.module.state_dict())

    def checkpoint(self) -> dict[str, Tensor]:
        """Return everything that going on with training needs, on the CPU."""
        tensors = {_MODULE + name: tensor for name, tensor in self.state().items()}
        for index, parameter in enumerate(self._parameters):
            momentum = self._optimizer.state[parameter].get("momentum_buffer") if self._optimizer else None
            if momentum is not None:
                tensors[f"{_MOMENTUM}{index}"] = momentum
        return {name: tensor.detach().cpu() for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint, with the same bits as if training had not stopped."""
        own = {name.removeprefix(_MODULE): tensor for name, tensor in tensors.items() if name.startswith(_MODULE)}
        self.module.load_state_dict(own)
        for index, parameter in enumerate(self._parameters):
            momentum = tensors.get(f"{_MOMENTUM}{index}")
            if momentum is not None and self._optimizer is not None:
                self._optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device, copy=True)


@torch.no_grad()
def to_unit_length(parameters: list[nn.Parameter]) -> None:
    """Scale the whole gradient to length 1, so that the rate is the length of a step; a gradient of zeros stays.

    Scaling each tensor by itself learns faster still where a norm follows every layer, but drives the weights of
    saturated gates and of attention out of range: a tensor that hardly matters must hardly move.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    lengths = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
    length = torch.linalg.vector_norm(torch.stack(lengths)).clamp_min(torch.finfo(torch.float32).tiny)
    torch._foreach_div_(gradients, length)  # pyright: ignore[reportPrivateImportUsage]
