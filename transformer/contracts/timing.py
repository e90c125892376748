"""A latency with its spread. Every number carries its unit: milliseconds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Protocol(BaseModel):
    """How the stopwatch works; part of a target."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warmup_seconds: float = 0.2
    """Least time of warm-up; it goes on until the timings converge."""
    rounds: int = 20
    """Least number of interleaved rounds."""
    max_rounds: int = 200
    max_seconds: float = 20.0
    """Stop after this time, however wide the intervals are, once there are as many rounds as asked at least."""
    confidence: float = 0.99
    """Level of the bootstrap interval."""
    relative_width: float = 0.02
    """Stop when the interval of every median is narrower than this share of it."""
    min_sample_ms: float = 2.0
    """One sample repeats the call until it lasts about this long, so that the clock's grain does not count."""
    drift: float = 0.05
    """A round is thrown away if its halves differ by more than this share, in the median over the calls."""
    trim: float = 0.1
    """Share of samples cut at each end for the trimmed mean (GENet section 3.2)."""


class Timing(BaseModel):
    """Latency of one call, measured or estimated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ms: float
    """Median, in milliseconds per call."""
    low: float
    """Lower end of the bootstrap interval of the median (ms)."""
    high: float
    """Upper end (ms)."""
    trimmed_mean: float
    """Mean without the slowest and fastest 10 % (ms)."""
    samples: tuple[float, ...] = ()
    """Raw samples (ms)."""
    converged: bool = True
    """False if the interval stayed wider than the protocol asks."""
    estimated: bool = False
    """True if it was not measured on the target."""
