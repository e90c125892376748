"""The processes that train one student together; starting them and their devices are accelerate's job."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...transformer.errors import UsageError
from ...transformer.runs.processes import processes
from .global_norm import GlobalBatchNorm


class Parallel:
    """One process or many: the same steps on the same batches.

    A batch is that of all processes together; each takes an equal part of its rows. What makes the steps the same:

    1. Gradients are averaged over the processes (DistributedDataParallel), the losses being means over equal parts.
    2. Batch norms in training see the batch of all processes (``GlobalBatchNorm``).
    3. The order of the images and the numbers that augmentation draws belong to the batch, not to the process.

    So losses are equal up to the order of floating-point sums. Dropout is the exception: every process draws its own.
    """

    def __init__(self, device: torch.device) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        found = processes()
        self.rank, self.count = found.rank, found.count
        options = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
        self._accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[options])

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return what is called in place of ``network`` so that gradients are averaged; weights become equal."""
        return cast(nn.Module, self._accelerator.prepare_model(network, device_placement=False))

    def part(self, batch_size: int, stage: str) -> slice:
        """Return this process's rows of a batch of a stage of the pipeline.

        Raises:
            UsageError: the rows cannot be shared out equally.
        """
        if batch_size % self.count:
            raise UsageError(
                f"{self.count} processes cannot share batches of {batch_size} images equally; "
                f"give --set {stage}.batch_size={-(-batch_size // self.count) * self.count} or other processes"
            )
        rows = batch_size // self.count
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def step(self, network: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Enter before forward and backward; gradients are averaged in the ``last`` part of a step only."""
        return nullcontext() if last else cast(AbstractContextManager[Any], self._accelerator.no_sync(network))

    def norm(self) -> AbstractContextManager[Any]:
        """Enter around the student's forward, for batch norms over all processes."""
        return GlobalBatchNorm() if self.count > 1 else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""
        self._accelerator.backward(loss)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a value over the processes."""
        return cast(Tensor, self._accelerator.reduce(value, "mean")) if self.count > 1 else value

    def gather(self, items: Iterable[Any]) -> list[Any]:
        """Return the items of all processes, in their order."""
        from accelerate.utils import gather_object

        return list(gather_object(list(items))) if self.count > 1 else list(items)

    def wait(self) -> None:
        """Wait for all processes."""
        self._accelerator.wait_for_everyone()
