"""A target: device + runtime + precision + batch size + measuring protocol."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .timing import Protocol


class Tolerances(BaseModel):
    """What still counts as the same output as PyTorch FP32."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_abs: float = Field(default=1e-4, ge=0)
    """Largest difference of an output value; times the largest absolute value of that output, where it is above 1."""
    top1_agreement: float = Field(default=0.99, ge=0, le=1)
    """Least share of samples with the same top-1 class."""


class Target(BaseModel):
    """Where the student will run. Read from a TOML file; users can add theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    backend: str
    """Name of the backend plugin that lowers and times."""
    device: str = "cpu"
    """``cpu`` or ``cuda``; the device facts are in ``facts``."""
    precision: str = "fp32"
    batch_size: int = Field(default=1, ge=1, le=1_000_000)
    description: str = ""
    options: dict[str, Any] = {}
    """Of the backend, e.g. threads or graph optimisation level."""
    facts: dict[str, Any] = {}
    """Of the device, for estimates: peak rates and bandwidth."""
    protocol: Protocol = Protocol()
    tolerances: Tolerances = Tolerances()

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that changes a latency; the stopwatch's protocol does not."""
        data = self.model_dump_json(include={"backend", "device", "precision", "batch_size", "options"})
        return hashlib.sha256(data.encode()).hexdigest()[:12]

    @property
    def facts_digest(self) -> str:
        """Short hash of the facts that estimates are made from; they change no measurement."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
