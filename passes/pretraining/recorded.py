"""A step as one CUDA graph, and the fastest of several ways to take the same step.

Candidates are small: a GPU waits for the next kernel longer than it computes. A CUDA graph starts all kernels of a step
at once. Whether that pays depends on the shapes, so it is measured, in steps that count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[[Tensor], object]

_TRIALS = 4
"""Steps that every way takes before the fastest is known; the first of them is not timed, it prepares."""


class UnavailableError(Exception):
    """A way cannot be taken here; nothing was computed."""


class Recorded:
    """A step on batches of one shape, recorded at the first call and replayed at every one.

    The step must have been taken before, so that all state that outlives it has its place in memory.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor) -> None:
        """Take the step.

        Raises:
            UnavailableError: it cannot be recorded: it waits for the device, or memory is short.
        """
        if self._graph is None:
            self._images, graph = images.clone(), torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph):
                    self._step(self._images)
            except RuntimeError as error:
                raise UnavailableError(str(error).splitlines()[0]) from error
            self._graph = graph
        self._images.copy_(images)
        self._graph.replay()


class Fastest:
    """Takes a step in each of several ways in turn, then always in the one that was fastest."""

    def __init__(self, ways: Sequence[Step], wait: Callable[[], object]) -> None:
        """``wait`` returns when the device has done all it was given; the first way must be available."""
        self._ways = list(ways)
        self._wait = wait
        self._seconds: list[float] = []
        self._best = self._ways[0]
        self._least = float("inf")

    def __call__(self, images: Tensor) -> None:
        """Take the step."""
        if not self._ways:
            self._best(images)
            return
        self._wait()
        started = time.perf_counter()
        try:
            self._ways[0](images)
        except UnavailableError:
            self._next()
            self(images)
            return
        self._wait()
        self._seconds.append(time.perf_counter() - started)
        if len(self._seconds) == _TRIALS:
            self._next()

    def _next(self) -> None:
        """Compare the way that was tried with the best before it, and go on to the next one."""
        way, timed = self._ways.pop(0), self._seconds[1:]
        if timed and min(timed) < self._least:
            self._best, self._least = way, min(timed)
        self._seconds = []
