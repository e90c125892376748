"""The clock and the graphs of a CUDA device."""

from __future__ import annotations

from collections.abc import Callable

import torch

_WARM_UP = 3  # runs before a capture: the first ones allocate and choose kernels


class DeviceClock:
    """Seconds on the current CUDA stream. All that was enqueued before a reading is finished when it returns.

    Readings are events on the stream, added up one interval at a time: an event's own time is a float32 of
    milliseconds, too coarse after minutes.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._last = _mark()

    def __call__(self) -> float:
        """Return the seconds since the clock was made."""
        now = _mark()
        now.synchronize()
        self._seconds += self._last.elapsed_time(now) / 1000
        self._last = now
        return self._seconds


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """Return a call that replays all that ``call`` enqueues as one CUDA graph. To be called on a side stream."""
    for _ in range(_WARM_UP):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    replay: Callable[[], object] = graph.replay
    return replay


def side_stream() -> torch.cuda.Stream:
    """Return a new stream: what runs on the default one waits for more than it needs to."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _mark() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
