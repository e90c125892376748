"""Where passes lower modules and open them to be timed: files of a run that may be thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ...backends.measuring.statistics import summarise
from ...transformer.contracts.backend import Runner, batch_of
from ...transformer.contracts.context import Context
from ...transformer.contracts.timing import Timing
from ...transformer.errors import UsageError
from ...transformer.rewrite.deploy import deploy
from ...transformer.tools.copied import copied
from .provenance import absence, here, what_instead

Arrays = tuple[NDArray[np.generic], ...]


class Workbench:
    """Lowers for the context's target into a scratch folder of the run and times next to the whole teacher."""

    def __init__(self, context: Context) -> None:
        """Prepare the folder.

        Raises:
            UsageError: the target, or the device that the run is about, is not on this machine.
        """
        reason = absence(context)
        if reason is not None:
            raise UsageError(f"{reason}; {what_instead(context)}")
        self._context = context
        self._folder = context.store.scratch
        self._folder.mkdir(parents=True, exist_ok=True)
        self._count = 0
        self._teacher: Runner | None = None

    @property
    def provenance(self) -> dict[str, str]:
        """What the timings depend on."""
        return here(self._context)

    def teacher(self) -> Runner:
        """Return the whole teacher, lowered once a run."""
        if self._teacher is None:
            context = self._context
            path = self._folder / f"teacher-{context.target.fingerprint}.lowered"
            if not path.exists():
                context.backend.lower(lowerable(context.model), network_inputs(context), context.target, path)
            self._teacher = context.backend.load(path, context.target)
        return self._teacher

    def lower(self, modules: Sequence[nn.Module], inputs: Sequence[Sequence[Tensor]]) -> list[Runner | str]:
        """Lower modules and open them; where that cannot be done, the reason stands in place of the runner."""
        context = self._context
        paths = [self._next_path() for _ in modules]
        reasons = context.backend.lower_many([lowerable(module) for module in modules], inputs, context.target, paths)
        pairs = zip(reasons, paths, strict=True)
        found = [context.backend.load(path, context.target) if reason is None else reason for reason, path in pairs]
        for path in paths:
            path.unlink(missing_ok=True)
        return found

    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[Tensor]], max_rounds: int | None = None
    ) -> tuple[Timing, ...]:
        """Time the whole teacher and ``runners`` interleaved; the teacher's timing comes first.

        ``max_rounds`` is fewer than the target's protocol allows, where less certainty will do.
        """
        arrays = [_arrays(network_inputs(self._context)), *(_arrays(tensors) for tensors in inputs)]
        target = self._context.target
        if max_rounds is not None and max_rounds < target.protocol.max_rounds:
            protocol = target.protocol.model_copy(update={"max_rounds": max(max_rounds, 1)})
            target = target.model_copy(update={"protocol": protocol})
        return self._context.backend.time([self.teacher(), *runners], arrays, target)

    def _next_path(self) -> Path:
        self._count += 1
        return self._folder / f"{self._count:05d}.lowered"


def combined(timings: Sequence[Timing], weights: Sequence[float], scale: Timing, scale_ms: float) -> Timing:
    """Return the weighted sum of interleaved ``timings``, round by round, in units where ``scale`` takes ``scale_ms``.

    So a machine that runs slower for a while, or from one day to the next, does not change the result.
    """
    rows = np.array([timing.samples for timing in timings])
    samples = np.asarray(weights) @ rows / np.array(scale.samples) * scale_ms
    timing = summarise([float(sample) for sample in samples], all(timing.converged for timing in timings))
    return timing.model_copy(update={"estimated": scale.estimated})


def network_inputs(context: Context) -> tuple[Tensor, ...]:
    """Return example inputs of the whole network at the target's batch size."""
    return tuple(batch_of(tensor.cpu(), context.target.batch_size) for tensor in context.example_inputs)


def lowerable(module: nn.Module) -> nn.Module:
    """Return ``module`` as it runs on users' devices, with its weights on the processor, where exporters want them.

    What trains in another form or on another device is not touched.
    """
    module = deploy(module)
    tensors = chain(module.parameters(), module.buffers())
    return module if all(tensor.device.type == "cpu" for tensor in tensors) else copied(module)[0].cpu()


def _arrays(tensors: Sequence[Tensor]) -> Arrays:
    return tuple(tensor.detach().cpu().numpy() for tensor in tensors)
