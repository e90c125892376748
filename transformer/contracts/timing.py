"""A latency with its spread. Every number carries its unit: milliseconds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_MS = 3.6e6
"""An hour: no call takes longer, so a larger number is none of a stopwatch (ms)."""
Ms = Annotated[float, Field(ge=-MOST_MS, le=MOST_MS)]
"""A latency, or a difference of two (ms)."""
_Seconds = Annotated[float, Field(ge=0, le=86400)]
_Share = Annotated[float, Field(ge=0)]


class Protocol(BaseModel):
    """How the stopwatch works; part of a target."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    warmup_seconds: _Seconds = 0.2
    """Least time of warm-up; it goes on until the timings converge."""
    rounds: int = Field(default=20, ge=1, le=100_000)
    """Least number of interleaved rounds."""
    max_rounds: int = Field(default=200, ge=1, le=100_000)
    max_seconds: _Seconds = 20.0
    """Stop after this time, however wide the intervals are, once there are as many rounds as asked at least."""
    confidence: float = Field(default=0.99, gt=0, lt=1)
    """Level of the bootstrap interval."""
    relative_width: _Share = 0.02
    """Stop when the interval of every median is narrower than this share of it."""
    min_sample_ms: float = Field(default=2.0, ge=0, le=MOST_MS)
    """One sample repeats the call until it lasts about this long, so that the clock's grain does not count."""
    drift: _Share = 0.05
    """A round is thrown away if its halves differ by more than this share, in the median over the calls."""
    trim: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of samples cut at each end for the trimmed mean (GENet section 3.2)."""


class Timing(BaseModel):
    """Latency of one call, measured or estimated."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ms: Ms
    """Median, in milliseconds per call."""
    low: Ms
    """Lower end of the bootstrap interval of the median (ms)."""
    high: Ms
    """Upper end (ms)."""
    trimmed_mean: Ms
    """Mean without the slowest and fastest 10 % (ms)."""
    samples: tuple[Ms, ...] = ()
    """Raw samples (ms)."""
    converged: bool = True
    """False if the interval stayed wider than the protocol asks."""
    estimated: bool = False
    """True if it was not measured on the target."""
