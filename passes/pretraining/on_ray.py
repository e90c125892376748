"""Units as tasks of a Ray cluster.

The teacher and the data travel once to every machine, features never: a unit runs the teacher on the device of its
candidates. Weights come back with the result and are written by the driver, so nothing in Ray's object store is needed
to go on when the cluster, or the driver, is gone.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

import torch

from ...transformer.errors import MissingExtraError, UsageError
from .executor import Executor, Report
from .unit import Job, Pair, Result, States, TooLarge, Unit, run_unit

MOST_DEATHS = 5
"""Workers that a unit may lose before it is halved like one that the memory does not hold: the system may have killed
them for it."""


class RayExecutor(Executor):
    """Runs every unit as a task on one CPU or GPU of the cluster that ``RAY_ADDRESS`` names, else of this machine.

    ``workers`` is the most units at a time; 0 for as many as the cluster has room for.
    """

    def __init__(self, job: Job, workers: int, report: Report) -> None:
        """Connect and send the job.

        Raises:
            UsageError: no Ray, no such device in the cluster, or data that cannot be sent.
        """
        self._ray = _import()
        on_gpu = job.device.type == "cuda"
        self._owns = not self._ray.is_initialized()
        if self._owns:
            _connect(self._ray, 0 if on_gpu else workers)
        self._report = report
        self._tasks: dict[Any, tuple[Unit, States]] = {}
        self._deaths: Counter[tuple[Pair, ...]] = Counter()
        try:
            self._slots = _slots(self._ray, "GPU" if on_gpu else "CPU", workers)
            self._task = self._ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_retries=0)(_run)
            self._job = _send(self._ray, replace(job, device=torch.device(job.device.type)))
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """As many as the cluster has room for."""
        return self._slots

    @property
    def running(self) -> int:
        """Tasks that were not given back."""
        return len(self._tasks)

    def start(self, unit: Unit, states: States) -> None:
        """Submit a task."""
        self._tasks[self._task.remote(self._job, unit, states)] = (unit, states)

    def finish(self) -> tuple[Unit, Result]:
        """Wait for a task; one whose worker died is done again."""
        while True:
            (done,), _ = self._ray.wait(list(self._tasks), num_returns=1)
            unit, states = self._tasks.pop(done)
            try:
                result: Result = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except self._ray.exceptions.RayError as error:
                self._deaths[unit.pairs] += 1
                if self._deaths[unit.pairs] < MOST_DEATHS:
                    self.start(unit, states)
                    continue
                result = TooLarge(f"{MOST_DEATHS} workers died of it ({type(error).__name__})")
            if not isinstance(result, TooLarge):
                self._report(sum(outcome.step - unit.start for outcome in result.values()))
            return unit, result

    def close(self) -> None:
        """Stop what runs; shut Ray down where it was started here."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._tasks.clear()
        if self._owns:
            self._ray.shutdown()


def _run(job: Job, unit: Unit, states: States) -> Result:
    """Run a unit in a worker, on the one CPU that it was given."""
    torch.set_num_threads(1)
    return run_unit(job, unit, states, workers=1)


def _import() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "--executor ray") from error
    return ray


def _connect(ray: Any, cpus: int) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start one of ``cpus`` on this machine (0: all there are)."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        try:
            ray.init(num_cpus=cpus or None, include_dashboard=False, **quiet)
        except ValueError:  # a cluster that runs already has the CPUs that it has
            ray.init(**quiet)
    except (ConnectionError, RuntimeError) as error:
        raise UsageError(f"cannot reach a Ray cluster: {' '.join(str(error).split())}; check RAY_ADDRESS") from error


def _slots(ray: Any, resource: str, workers: int) -> int:
    there = int(ray.cluster_resources().get(resource, 0))
    if not there:
        other = "cpu" if resource == "GPU" else "cuda"
        raise UsageError(f"the Ray cluster has no {resource}; give --device {other}, or a cluster that has one")
    return min(workers, there) if workers else there


def _send(ray: Any, job: Job) -> Any:
    """Put the job where every worker finds it."""
    try:
        return ray.put(job)
    except (TypeError, AttributeError, ValueError) as error:  # what pickling raises for a part that cannot travel
        reason = " ".join(str(error).split())
        raise UsageError(f"the teacher or the data cannot be sent to Ray's workers: {reason}") from error
