"""How well a runtime uses a device: constants fitted on published latencies, kept as data beside this file."""

from __future__ import annotations

import tomllib
from functools import cache

from pydantic import BaseModel, ConfigDict, Field

from ...transformer.tools.files import shipped
from .kernel import Kind

FITTED = "constants.toml"


class Constants(BaseModel):
    """What is fitted, for one runtime. Nothing in it is about one network or one device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """What it was fitted on."""
    median_error: float = Field(gt=0)
    """Median error (share) on families of networks that were left out of the fit."""
    product: float = Field(gt=0, le=1)
    """Share of the peak rate that an endless product of large tiles reaches."""
    start: float = Field(ge=0)
    """What a tile pays before its first and after its last product, in products of depth."""
    reuse: float = Field(ge=0)
    """Values per operand read at which a tile reaches half of its rate: small tiles wait for memory."""
    depthwise: float = Field(gt=0, le=1)
    """Share of the vector units' rate that depthwise convolutions reach."""
    memory: float = Field(gt=0, le=1)
    """Share of the sustained bandwidth that products and pointwise operations reach."""
    depthwise_memory: float = Field(gt=0, le=1)
    """The same of depthwise convolutions."""
    reduce_memory: float = Field(gt=0, le=1)
    """The same of means, norms and pooling."""
    kernel_us: float = Field(ge=0)
    """Time of a kernel that does nothing, on the device (microseconds)."""
    issue_us: float = Field(default=0.0, ge=0)
    """Time between two kernels that the host can start (microseconds)."""

    def memory_share(self, kind: Kind) -> float:
        """Return the share of the sustained bandwidth that kernels of a kind reach."""
        if kind is Kind.DEPTHWISE:
            return self.depthwise_memory
        return self.reduce_memory if kind is Kind.REDUCE else self.memory


@cache
def constants(runtime: str) -> Constants:
    """Return the constants of ``pytorch`` (eager) or ``tensorrt``."""
    text = shipped(__name__, FITTED)
    return Constants.model_validate(tomllib.loads(text)[runtime])
