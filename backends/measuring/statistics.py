"""Medians, trimmed means and bootstrap intervals of timings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...transformer.contracts.timing import Timing
from ...transformer.errors import UsageError
from .interval import Interval, median_interval

__all__ = ["Interval", "median_interval", "pooled", "ratio_interval", "ridge", "summarise", "trimmed_mean"]


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


def pooled(timings: Sequence[Timing], confidence: float = 0.99, trim: float = 0.1) -> Timing:
    """Return one timing of the samples of all ``timings``, in their order."""
    samples = [sample for timing in timings for sample in timing.samples]
    return summarise(samples, all(timing.converged for timing in timings), confidence, trim)


def ridge(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    toward: Sequence[float],
    pull: Sequence[float],
    weight: NDArray[np.float64] | float = 1.0,
) -> NDArray[np.float64]:
    """Return the (K,) coefficients of least squares ``x @ c = y``, each pulled ``toward`` a value.

    ``x`` is (N, K), ``y`` and ``weight`` (N,); ``pull`` (K,) counts like a sum of squares of its column.
    """
    weighted, penalty = x.T * weight, np.diag(pull)
    return np.linalg.solve(weighted @ x + penalty, weighted @ y + penalty @ np.asarray(toward)).astype(np.float64)


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
