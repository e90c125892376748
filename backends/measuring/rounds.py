"""The stopwatch: what a call costs next to other calls, on a machine that others use too.

1. Calls are timed in rounds. A round takes every call twice, in a shuffled order and then in the reverse of it
   (ABBA), so that a steady drift within the round cancels.
2. A round whose second half differs from its first by more than ``Protocol.drift``, in the median over the calls, is
   thrown away: something else held the machine. The reference alone must not decide: rounds in which it happened to
   be slow once would go, and it would look faster than a copy of itself.
3. One sample runs the call once untimed, so that the caches hold what it needs and not what another call left, and then
   repeats it as often as comes closest to ``Protocol.min_sample_ms``. A sample in which the system gave the processor
   to somebody else is taken again, a few times; the samples are short, so most come through whole. Where in most rounds
   one did not, others hold the processor all the time and it says that it does not know: slices of the scheduler are
   equal, so what they add to a sample can be as steady as the truth.
4. The first call is the reference. It stops when every call's median, or its ratio to the reference, is known to
   ``Protocol.relative_width``, and says so where ``Protocol.max_rounds`` or ``Protocol.max_seconds`` came first.

Needs Python and numpy only: a kit takes this file to the device, so here and there one stopwatch runs.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from .interval import median_interval

if TYPE_CHECKING:
    from ...transformer.contracts.timing import Protocol

resource: ModuleType | None
try:
    import resource
except ImportError:  # not on Windows
    resource = None

Call = Callable[[], object]
Clock = Callable[[], float]
Interruptions = Callable[[], int]
_TRIES = 8  # how often a sample that was interrupted is taken again
_CROWDED_MS = 20.0  # interruptions that lie closer than this are by processes that want the processor all the time
_WINDOW = 5  # rounds of warm-up whose medians are compared
_SETTLED = 0.02  # share by which two windows of a warm machine may differ
_PATIENCE = 5  # warm-up lasts at most this many times the protocol's least
_TELLING = 5  # rounds, fewer of which say nothing of the spread
_MOST_WARM_ROUNDS = 1000  # for a clock that does not move


def interruptions() -> int:
    """Return how often the system took the processor from this process; 0 where it does not tell."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource is not None else 0


@dataclass(frozen=True)
class Rounds:
    """What the rounds that count were for each call: its samples (ms), and whether they say enough."""

    samples: tuple[tuple[float, ...], ...]
    converged: tuple[bool, ...]


def take_rounds(
    calls: Sequence[Call],
    protocol: Protocol,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    interrupted: Interruptions = interruptions,
) -> Rounds:
    """Time ``calls`` against each other; sample i of every call is of round i (ms per call).

    ``clock`` returns seconds, ``interrupted`` a count that rises when the processor is taken away. The order of the
    calls in a round is drawn from ``seed``.
    """
    with _no_collection():
        stopwatch = _Stopwatch(tuple(calls), protocol, random.Random(seed), clock, interrupted)
        stopwatch.warm_up()
        return stopwatch.run()


@dataclass
class _Stopwatch:
    calls: tuple[Call, ...]
    protocol: Protocol
    shuffle: random.Random
    clock: Clock
    interrupted: Interruptions

    def __post_init__(self) -> None:
        self.repeats = [1] * len(self.calls)
        self.crowded = 0  # samples that never came through whole

    def warm_up(self) -> None:
        """Run rounds until the least time is over and two windows agree; set how often a sample repeats its call."""
        start = self.clock()
        rounds: list[float] = []
        while len(rounds) < _MOST_WARM_ROUNDS:
            rounds.append(self._warm_round())
            spent = self.clock() - start
            if spent >= _PATIENCE * self.protocol.warmup_seconds:
                return
            if spent >= self.protocol.warmup_seconds and _settled(rounds):
                return

    def run(self) -> Rounds:
        """Take rounds until the medians are known well enough, or the protocol ends it."""
        kept: list[list[float]] = []
        drifted: list[list[float]] = []
        crowded = 0
        check, start = self.protocol.rounds, self.clock()
        for done in range(self.protocol.max_rounds):
            if done >= self.protocol.rounds and self.clock() - start > self.protocol.max_seconds:
                break
            before = self.crowded
            samples, drift = self._round()
            crowded += self.crowded > before
            (drifted if drift > self.protocol.drift else kept).append(samples)
            if len(kept) >= check:
                narrow = self._narrow(kept)
                if all(narrow[1:] or narrow):
                    break
                check = len(kept) + max(1, len(kept) // 4)
        # a machine on which every round drifts still gets an answer, marked as not converged
        used = kept if len(kept) >= 3 else kept + drifted
        known = len(used) >= _TELLING and 2 * crowded <= len(kept) + len(drifted)
        narrow = self._narrow(used)
        return Rounds(tuple(zip(*used, strict=True)), tuple(known and one for one in narrow))

    def _round(self) -> tuple[list[float], float]:
        """Return every call's mean sample (ms) and the share by which the machine drifted."""
        order = list(range(len(self.calls)))
        self.shuffle.shuffle(order)
        first = {index: self._sample(index) for index in order}
        second = {index: self._sample(index) for index in reversed(order)}
        changes = [math.log(second[index] / first[index]) for index in order if first[index] > 0 and second[index] > 0]
        drift = abs(statistics.median(changes)) if changes else 0.0
        return [(first[index] + second[index]) / 2 for index in range(len(self.calls))], drift

    def _sample(self, index: int) -> float:
        """Return ms per call of the first sample that was not interrupted, or of the shortest one."""
        best, times = math.inf, 0
        self.calls[index]()
        for _ in range(_TRIES):
            before = self.interrupted()
            sample = self._one_sample(self.calls[index], self.repeats[index])
            if self.interrupted() == before:
                return sample
            best, times = min((best, times), (sample, self.interrupted() - before))
        self.crowded += times * _CROWDED_MS > best * self.repeats[index]
        return best

    def _one_sample(self, call: Call, repeats: int) -> float:
        start = self.clock()
        for _ in range(repeats):
            call()
        return 1000 * (self.clock() - start) / repeats

    def _warm_round(self) -> float:
        total = 0.0
        for index in range(len(self.calls)):
            sample = self._sample(index)
            total += sample
            if sample > 0:
                self.repeats[index] = max(1, round(self.protocol.min_sample_ms / sample))
        return total

    def _narrow(self, rounds: list[list[float]]) -> list[bool]:
        """Return for each call whether its median, or its ratio to the reference, is known well enough."""
        reference, *others = (list(series) for series in zip(*rounds, strict=True))
        ratios = [[a / b for a, b in zip(series, reference, strict=True) if b > 0] for series in others]
        pairs = zip(others, ratios, strict=True)
        return [self._is_narrow(reference), *(self._is_narrow(one) or self._is_narrow(ratio) for one, ratio in pairs)]

    def _is_narrow(self, series: list[float]) -> bool:
        if not series:
            return False
        return median_interval(series, self.protocol.confidence).relative_width <= self.protocol.relative_width


def _settled(rounds: list[float]) -> bool:
    if len(rounds) < 2 * _WINDOW:
        return False
    before, after = sorted(rounds[-2 * _WINDOW : -_WINDOW]), sorted(rounds[-_WINDOW:])
    return abs(after[_WINDOW // 2] - before[_WINDOW // 2]) <= _SETTLED * before[_WINDOW // 2]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the samples.

    Nothing is collected before: that takes half a second where PyTorch is loaded, longer than many a sitting.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
