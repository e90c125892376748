"""Where units run: here, or on other machines. Whoever gives them out writes the records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .unit import Job, Result, States, Unit, run_unit

EXECUTORS = ("local", "ray")
Report = Callable[[int], None]


class Executor(ABC):
    """Takes units while it has room and gives back one finished unit at a time, in any order. A context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many units run at the same time."""

    @property
    @abstractmethod
    def running(self) -> int:
        """How many units were started and not yet given back."""

    @abstractmethod
    def start(self, unit: Unit, states: States) -> None:
        """Begin a unit; ``states`` holds what its candidates go on from."""

    @abstractmethod
    def finish(self) -> tuple[Unit, Result]:
        """Wait for one of the units that were started and return it with its result."""

    def close(self) -> None:
        """Give up what was not given back."""
        return


class LocalExecutor(Executor):
    """Runs one unit after the other in this process, its candidates on ``workers`` threads of a CPU."""

    def __init__(self, job: Job, workers: int, report: Report) -> None:
        self._job, self._workers, self._report = job, workers, report
        self._waiting: deque[tuple[Unit, States]] = deque()

    @property
    def slots(self) -> int:
        """One: the candidates of a unit share the machine."""
        return 1

    @property
    def running(self) -> int:
        """How many units wait."""
        return len(self._waiting)

    def start(self, unit: Unit, states: States) -> None:
        """Put the unit at the end of the queue."""
        self._waiting.append((unit, states))

    def finish(self) -> tuple[Unit, Result]:
        """Run the first unit of the queue."""
        unit, states = self._waiting.popleft()
        return unit, run_unit(self._job, unit, states, self._report, self._workers)
