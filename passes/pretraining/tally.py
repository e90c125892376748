"""What the user sees while candidates train."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

from ...transformer.contracts.progress import Progress, Task
from .unit import Pair


class Tally:
    """Counts by family and block, candidates a second, time left, least error."""

    def __init__(self, progress: Progress, task: Task, pairs: Sequence[Pair], steps: int) -> None:
        """Take what is to be trained; ``steps`` are those of one candidate."""
        self._progress, self._task, self._steps = progress, task, steps
        self._left = len(pairs) * steps
        self._total = Counter(spec.family for _, spec in pairs)
        self._done: Counter[str] = Counter()
        self._errors: dict[str, float] = {}
        self._families: dict[str, float] = {}
        self._ended = 0
        self._taken, self._started = 0, time.monotonic()

    def report(self, count: int) -> None:
        """Count steps of candidates that were done."""
        self._taken += count
        self._left -= count
        self._task.advance(count, self._note())

    def skip(self, count: int) -> None:
        """Count steps that need not be done: earlier ones, or those of a candidate that was stopped."""
        self._left -= count
        self._task.advance(count)

    def ended(self, pair: Pair, error: float | None) -> None:
        """Count a candidate that is ready (with its error), failed or stopped."""
        block, family = pair[0], pair[1].family
        self._ended += 1
        self._done[family] += 1
        if error is not None and math.isfinite(error):
            self._errors[block] = min(error, self._errors.get(block, math.inf))
            self._families[family] = min(error, self._families.get(family, math.inf))

    def show(self) -> None:
        """Tell how far every family is, and the least error of every block."""
        families = (
            f"{name} {self._done[name]}/{total}{_least(self._families, name)}" for name, total in self._total.items()
        )
        self._progress.log(f"pretrain: {self._ended} of {self._total.total()} candidates: {', '.join(families)}")
        blocks = ", ".join(f"{name} {error:.3g}" for name, error in self._errors.items())
        if blocks:
            self._progress.log(f"pretrain: least error by block: {blocks}")

    def _note(self) -> str:
        """Return speed and time left; a candidate's worth of steps counts as one."""
        rate = self._taken / self._steps / max(1e-9, time.monotonic() - self._started)
        seconds = round(self._left / self._steps / rate)
        least = f", least error {min(self._errors.values()):.3g}" if self._errors else ""
        return f"{rate:.2g} candidates/s, {seconds // 60}:{seconds % 60:02} left{least}"


def _least(errors: dict[str, float], name: str) -> str:
    return f" ({errors[name]:.3g})" if name in errors else ""
