"""What latency costs in the loss (PruNet section 3.1), and the price at which a budget is met."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ....transformer.contracts.store import Store
from ...latency.records import LatencyModelRecord
from ..contest import Contest

_POWER = 0.6
"""Of the logarithm (beta)."""
_LEAST_US = math.e
"""What is faster costs as much: a logarithm below 1 would be no price, one below 0 has no such power."""
_ASCENT = 0.05
"""Growth of the price a step for each e-fold that the latency is over its limit."""


@dataclass(frozen=True)
class Price:
    """The latency of a whole network from the sum of its rows, and what it costs.

    The paper's logarithm is natural and of microseconds: with milliseconds it would be below 0 and have no such power.
    """

    fixed_ms: float
    """Of what is outside the blocks."""
    slope: float
    limit_ms: float
    """Of the rows' sum."""

    @classmethod
    def of(cls, store: Store, contest: Contest) -> Price:
        """Return that of a run, with the contest's limit of latency."""
        model = store.get(LatencyModelRecord, "model")
        return cls(model.fixed_ms if model else 0.0, model.slope if model else 1.0, contest.limits["ms"])

    def whole(self, ms: float) -> float:
        """Return the predicted latency (ms) of a whole network from its rows' sum."""
        return self.fixed_ms + self.slope * ms

    def term(self, ms: Tensor, alpha: float) -> Tensor:
        """Return ``alpha (ln latency)^0.6`` for a sum of rows (ms), a scalar with gradient."""
        latency = (1000 * (self.fixed_ms + self.slope * ms)).clamp_min(_LEAST_US)
        return alpha * latency.log() ** _POWER

    def start(self, ms: float) -> float:
        """Return the alpha at which an e-fold of latency costs one nat at a sum of ``ms``."""
        logarithm = math.log(max(1000 * self.whole(ms), _LEAST_US))
        return float(logarithm ** (1 - _POWER) / _POWER)

    def ascended(self, alpha: float, ms: float) -> float:
        """Return the alpha after a step at an expected sum of ``ms``: higher over the limit, lower within it."""
        over = math.log(max(self.whole(ms), 1e-9) / max(self.whole(self.limit_ms), 1e-9))
        return alpha * math.exp(_ASCENT * over)
