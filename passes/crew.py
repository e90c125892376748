"""Worker threads that train or evaluate different things at the same time.

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
