"""A backend's guess at latencies on a device that is not here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import CaptureError, UsageError
from .target import Target
from .timing import Timing


@dataclass(frozen=True)
class Estimator:
    """Estimates for one target. They are never mixed with measurements."""

    ms: Callable[[nn.Module, Sequence[Tensor]], float]
    """Return the latency (ms) of one call of a module on inputs of these shapes; raise CaptureError where none can be
    given. Nothing is computed."""
    provenance: dict[str, str]
    """What an estimate is made from: the absent device, the model, where its constants come from."""
    error: float
    """Median error (share) on published networks of kinds that the constants were not fitted on."""


@dataclass(frozen=True)
class KitPart:
    """The runtime's share of a kit's script."""

    sources: tuple[str, ...]
    """Python source of ``take_rounds`` (the stopwatch) and of a class ``Device``, in an order in which they can be run.

    They need Python, numpy and the modules of ``needs`` only. ``Device(settings)`` has ``problem() -> str | None``,
    ``facts() -> dict[str, str]`` (the part of a latency's provenance that is seen there), ``clock()``, which returns
    a clock in seconds, and ``open(content, *inputs)``, which returns a call that runs the network in a lowered file
    of this content once.
    """
    needs: dict[str, str]
    """Modules that the script imports -> what to install them with, such as ``onnxruntime``."""
    settings: dict[str, Any]
    """What ``Device`` is made from: plain data."""
    asked: dict[str, str]
    """The part of a latency's provenance that the target's file decides."""


def batch_of(tensor: Tensor, size: int) -> Tensor:
    """Repeat or cut dimension 0 of ``tensor`` (N, ...) to ``size``, as a target's batch asks for."""
    times = -(-size // len(tensor))
    return tensor.repeat(times, *[1] * (tensor.dim() - 1))[:size]


class Runner(ABC):
    """A lowered network that is ready to run."""

    @abstractmethod
    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once on arrays of the shapes it was lowered with; dimension 0 is the target's batch."""

    @abstractmethod
    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Place the inputs on the device and return a call that runs once and does nothing else."""


class Backend(ABC):
    """A runtime. One folder a backend, registered by entry point ``hant.backends``."""

    name: ClassVar[str]
    suffix: ClassVar[str] = ".onnx"
    """Ending of the runtime's files, with the dot."""

    def artefact(self, network: str) -> str:
        """Return the name of the file, in a run, that holds ``network`` (``student``, ``teacher``) for the runtime."""
        return f"{network}{self.suffix}"

    @abstractmethod
    def unavailable(self, target: Target) -> str | None:
        """Return why ``target`` cannot be run on this machine; None if it can."""

    @abstractmethod
    def lower(
        self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path, dynamic_batch: bool = False
    ) -> None:
        """Write the runtime's file for ``module`` to ``path``, atomically.

        ``inputs`` are example tensors; the batch is theirs, unless ``dynamic_batch`` leaves dimension 0 of every
        input open. ``module`` is put in eval mode for the export and left as it was.

        Raises:
            CaptureError: the module cannot be exported, with the operation that stopped it.
        """

    def lower_many(
        self,
        modules: Sequence[nn.Module],
        inputs: Sequence[Sequence[Tensor]],
        target: Target,
        paths: Sequence[Path],
    ) -> tuple[str | None, ...]:
        """Write one file for each module; return for each why it could not be lowered, None where it could.

        A backend whose exporter costs more per call than per module lowers them together.
        """
        return tuple(
            self._why_not(module, args, target, path) for module, args, path in zip(modules, inputs, paths, strict=True)
        )

    def _why_not(self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path) -> str | None:
        try:
            self.lower(module, inputs, target, path)
        except CaptureError as error:
            return str(error)
        return None

    @abstractmethod
    def load(self, path: Path, target: Target) -> Runner:
        """Open a lowered file."""

    @abstractmethod
    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]], target: Target
    ) -> tuple[Timing, ...]:
        """Time the runners against each other, interleaved, by the target's protocol.

        Sample i of every timing belongs to round i, so ratios of two timings may be taken round by round. The first
        runner is the reference: rounds in which it drifted are left out.
        """

    @abstractmethod
    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""

    def estimator(self, target: Target) -> Estimator:
        """Return what estimates latencies of ``target`` where it cannot be run.

        Raises:
            UsageError: there is no cost model of the runtime, or the target lacks facts that it needs.
        """
        raise UsageError(f"target {target.name}: the backend {self.name} has no cost model")

    def kit(self, target: Target) -> KitPart:
        """Return what a kit for ``target`` needs of this runtime.

        Raises:
            UsageError: the runtime cannot be measured by a kit, or the target asks for what it does not have.
        """
        raise UsageError(
            f"target {target.name}: the backend {self.name} has no kit; run hant-opt profile on the device, or take a "
            "target of onnxruntime or tensorrt"
        )

    def packed(self, path: Path, target: Target) -> bytes:
        """Return what a kit holds of a lowered file: as fast as it, to be opened by the kit's script."""
        return path.read_bytes()
