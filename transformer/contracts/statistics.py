"""Medians, trimmed means and bootstrap intervals of timings."""

from __future__ import annotations

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
    """Return the median of ``samples`` with its percentile bootstrap interval; the same samples give the same bits."""
    values = np.asarray(samples, dtype=np.float64)
    medians = np.median(_resample(values, seed), axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return Interval(float(np.median(values)), float(low), float(high))


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
