"""Worker threads that train different candidates at the same time.

Small convolutions gain little from many threads each, and independent candidates gain all of them: every worker
computes on one thread. So a candidate's bits depend neither on the number of workers nor on who else is in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Job = Callable[[], object]


class Crew:
    """Runs independent jobs and waits for all of them."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    def run(self, jobs: Iterable[Job]) -> None:
        """Run the jobs, in any order; return when all are done. The first error is raised."""
        if self._pool is None:
            for job in jobs:
                job()
            return
        for future in [self._pool.submit(job) for job in jobs]:
            future.result()


@contextmanager
def crew(workers: int, device: torch.device) -> Iterator[Crew]:
    """Open a crew of ``workers`` threads; 0 for as many as torch uses. A GPU is fed by the calling thread alone."""
    if device.type != "cpu":
        yield Crew(None)
        return
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers or threads, "candidate", initializer=lambda: torch.set_num_threads(1))
    try:
        yield Crew(pool)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
