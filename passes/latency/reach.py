"""Which latencies the pool can reach, told before hours go into training."""

from __future__ import annotations

from dataclasses import dataclass

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.errors import InfeasibleError
from ..candidates.records import OperationRecord
from .predict import network_key
from .records import LatencyModelRecord, NetworkLatencyRecord
from .table import operation_ms

DOUBT = 1.25
"""A prediction from the table alone is true to within this factor, with room to spare."""


@dataclass(frozen=True)
class Reach:
    """The range of latencies between the fastest network and the teacher, in ms per call."""

    least_ms: float
    """Every block at its fastest operation, or what was measured faster."""
    teacher_ms: float
    target: str
    measured: bool
    """Whether it was measured as a whole; else it is predicted from the lookup table."""
    estimated: bool = False
    """Whether the teacher was not measured either: the table is a cost model's."""

    def __str__(self) -> str:
        """One line."""
        return (
            f"reachable on {self.target}: {self.least_ms:.4g} .. {self.teacher_ms:.4g} ms {self._how}, "
            f"{self.least_ms / self.teacher_ms:.3f} .. 1 of the teacher"
        )

    def check(self, budget: Budget) -> str:
        """Return in one line whether the latency budget can be met.

        Raises:
            InfeasibleError: it cannot; ``least`` says what can be met.
        """
        allowed = budget.latency.absolute(self.teacher_ms)
        if self.least_ms <= allowed:
            return f"budget {budget} is {allowed:.4g} ms and within reach"
        if not self.measured and self.least_ms <= allowed * DOUBT:
            return f"budget {budget} is {allowed:.4g} ms, at the edge of what can be reached; measuring will tell"
        ratio = self.least_ms / self.teacher_ms
        raise InfeasibleError(
            f"budget {budget} cannot be met on {self.target}: it allows {allowed:.4g} ms, the least that can be is "
            f"{self.least_ms:.4g} ms, {ratio:.3f} of the teacher's {self.teacher_ms:.4g} ms ({self._how}); "
            "give a larger --budget, or a --pool with faster operations such as hant-197",
            least={"ms": self.least_ms, "ratio": ratio},
        )

    @property
    def _how(self) -> str:
        if self.estimated:
            return "estimated"
        return "measured" if self.measured else "predicted"


def reach(context: Context) -> Reach | None:
    """Return the reachable range after profiling; None if the run has no lookup table of this target.

    What was measured is taken where the fastest network was, or where it is faster than the prediction of that one: the
    measured teacher less what the fastest operations save in the table.
    """
    store = context.store
    latencies, networks = operation_ms(store), store.all(NetworkLatencyRecord)
    fastest: dict[str, tuple[float, str]] = {}
    own: dict[str, float] = {}
    fitting = set()
    for key, record in store.all(OperationRecord).items():
        latency = latencies.get(record.latency_key)
        if record.fits and latency is not None:
            fitting.add(key)
            found = (latency, record.operation)
            fastest[record.block] = min(found, fastest.get(record.block, found))
            if record.operation == "teacher":
                own[record.block] = latency
    teacher = networks.get("teacher")
    if not own or teacher is None:
        return None
    measured = {
        key: network.timing.ms / network.teacher.ms * teacher.timing.ms
        for key, network in networks.items()
        if fitting.issuperset(f"{block}/{name}" for block, name in network.selection.items())
    }
    known = min(measured.values())
    model = store.get(LatencyModelRecord, "model")
    if model is not None:
        least = model.fixed_ms + model.slope * sum(ms for ms, _ in fastest.values())
    else:
        least = teacher.timing.ms - sum(own[block] - fastest[block][0] for block in own)
    whole = network_key({block: name for block, (_, name) in fastest.items()}) in measured
    seen = whole or known <= least
    return Reach(
        known if seen else least,
        teacher.timing.ms,
        context.target.name,
        measured=seen,
        estimated=teacher.timing.estimated,
    )
