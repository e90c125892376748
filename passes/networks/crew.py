"""Workers that train or evaluate different things at the same time: threads of a CPU, streams of a GPU.

Small convolutions gain little from many threads each, and independent jobs gain all of them: every worker computes on
one thread. So the bits of a result depend neither on the number of workers nor on what else is in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch

Job = Callable[[], object]


class Crew:
    """Runs independent jobs and waits for all of them."""

    def __init__(self, pool: ThreadPoolExecutor | None = None, workers: int = 1) -> None:
        self._pool = pool
        self._most = 2 * workers

    def run(self, jobs: Iterable[Job]) -> None:
        """Run the jobs, in any order; return when all are done. The first error is raised.

        Jobs are taken from the iterable as they are needed, so that few of them and of their data are alive.
        """
        if self._pool is None:
            for job in jobs:
                job()
            return
        running: deque[Future[object]] = deque()
        for job in jobs:
            if len(running) >= self._most:
                running.popleft().result()
            running.append(self._pool.submit(job))
        for future in running:
            future.result()


class Streams(Crew):
    """Hands out jobs from the calling thread to streams of a GPU, which runs small kernels side by side.

    What the jobs share was made on the stream that is current at ``run``, and it waits for all of them: so the memory
    of what they read and write is never given to others too early.
    """

    def __init__(self, device: torch.device, count: int) -> None:
        super().__init__()
        self._device = device
        self._streams = [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]

    def run(self, jobs: Iterable[Job]) -> None:
        """Start the jobs in order; what follows on the current stream comes after all of them."""
        here = torch.cuda.current_stream(self._device)
        used = 0
        for index, job in enumerate(jobs):
            stream = self._streams[index % len(self._streams)]
            if index < len(self._streams):
                stream.wait_stream(here)
                used += 1
            with torch.cuda.stream(stream):
                job()
        for stream in self._streams[:used]:
            here.wait_stream(stream)


@contextmanager
def crew(workers: int, device: torch.device) -> Iterator[Crew]:
    """Open a crew of ``workers`` threads; 0 for as many as torch uses. A GPU is fed by the calling thread alone."""
    if device.type != "cpu":
        yield Crew()
        return
    threads = torch.get_num_threads()  # setting it in a worker is seen by threads that start later: put back below
    workers = workers or threads
    pool = ThreadPoolExecutor(workers, "hant", initializer=lambda: torch.set_num_threads(1))
    try:
        yield Crew(pool, workers)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
