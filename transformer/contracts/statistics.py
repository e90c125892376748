"""Medians, trimmed means and bootstrap intervals of timings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .timing import Timing

_RESAMPLES = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value between the ends of its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        """Width of the interval as a share of the value."""
        return (self.high - self.low) / self.value if self.value > 0 else float("inf")


def median_interval(samples: Sequence[float], confidence: float = 0.99, seed: int = 0) -> Interval:
    """Return the median of ``samples`` with its bootstrap interval; the same samples give the same bits.

    The percentile bootstrap of a median covers too little where samples are few (4 % false alarms at the 99 % level
    with 10 to 20 of them), so the interval is widened to the exact one of order statistics, which supposes nothing
    about the distribution. Its level is half as far from certainty again, since a series that grows until its interval
    is narrow is looked at more than once.
    """
    values = np.sort(np.asarray(samples, dtype=np.float64))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.median(_resample(values, seed), axis=1), (tail, 1 - tail))
    cut = _cut(len(values), tail / 2)
    return Interval(float(np.median(values)), float(min(low, values[cut])), float(max(high, values[-1 - cut])))


def trimmed_mean(samples: Sequence[float], trim: float = 0.1) -> float:
    """Return the mean without the slowest and the fastest ``trim`` of the samples (GENet section 3.2)."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    cut = int(len(ordered) * trim)
    return float(ordered[cut : len(ordered) - cut].mean())


def ratio_interval(first: Timing, second: Timing, confidence: float = 0.99, seed: int = 0) -> Interval:
    """Return the median ratio ``first / second`` of two timings that were taken interleaved, with its interval.

    The ratio is taken round by round, so that what slows the whole machine for a while cancels out.

    Raises:
        UsageError: the timings are not of the same rounds.
    """
    if not first.samples or len(first.samples) != len(second.samples):
        raise UsageError(
            f"cannot compare timings of {len(first.samples)} and {len(second.samples)} rounds; time both together"
        )
    return median_interval(np.asarray(first.samples) / np.asarray(second.samples), confidence, seed)


def summarise(samples: Sequence[float], converged: bool, confidence: float = 0.99, trim: float = 0.1) -> Timing:
    """Return the timing of raw ``samples`` (ms per call)."""
    interval = median_interval(samples, confidence)
    return Timing(
        ms=interval.value,
        low=interval.low,
        high=interval.high,
        trimmed_mean=trimmed_mean(samples, trim),
        samples=tuple(float(sample) for sample in samples),
        converged=converged,
    )


def _resample(values: Array, seed: int) -> Array:
    index = np.random.default_rng(seed).integers(0, len(values), size=(_RESAMPLES, len(values)))
    return values[index]


def _cut(count: int, tail: float) -> int:
    """Return how many of ``count`` samples each end may lose: the median is outside in at most ``tail`` of cases.

    The number of samples below the median is binomial with probability one half.
    """
    below, cut = 0.0, 0
    while cut < (count - 1) // 2:
        below += math.comb(count, cut) / 2**count
        if below > tail:
            break
        cut += 1
    return max(0, cut - 1)
