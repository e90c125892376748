"""Run a lowered network, eagerly or compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError
from ...transformer.files.load import input_shapes, load_described
from ...transformer.tools.allocator import keep_memory
from ...transformer.tools.nested import tensors
from ..measuring.cuda import captured
from . import support


class PyTorchRunner(Runner):
    """One network on the target's device. Takes and returns float32; the target's precision is used inside."""

    def __init__(self, path: Path, target: Target) -> None:
        """Open ``path``, a file that this backend wrote.

        Raises:
            LoadError: missing, or not such a file.
        """
        if not path.is_file():
            raise LoadError(f"no lowered network at {path}; run the export first")
        try:
            network = load_described(path)
        except LoadError as error:
            raise LoadError(f"cannot open {path}: {error}; export it again") from error
        self._target = target
        self._count = len(input_shapes(network))
        if target.device == "cpu":
            keep_memory()
        network = network.to(target.device)
        self._module = torch.compile(network) if support.mode(target) == "compile" else network

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once."""
        placed = self._place(inputs)
        with torch.inference_mode(), support.thread_limit(self._target):
            result = self._module(*placed)
        return tuple((x.float() if x.is_floating_point() else x).cpu().numpy() for x in tensors(result))

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Place the inputs on the device and return the bare call; on a GPU it enqueues one run on the current stream.

        The caller sets the number of threads.
        """
        placed, module = self._place(inputs), self._module

        def call() -> None:
            with torch.inference_mode():
                module(*placed)

        return captured(call) if support.mode(self._target) == "cuda-graph" else call

    def _place(self, inputs: tuple[NDArray[np.generic], ...]) -> list[Tensor]:
        if len(inputs) != self._count:
            raise UsageError(f"the network takes {self._count} inputs, but got {len(inputs)}")
        precision = support.PRECISIONS[self._target.precision]
        placed = [torch.from_numpy(np.array(array)).to(self._target.device) for array in inputs]
        return [tensor.to(precision) if tensor.is_floating_point() else tensor for tensor in placed]
