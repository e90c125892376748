"""Which latencies the pool can reach, told before hours go into training."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts.budget import Budget
from ..contracts.context import Context
from ..contracts.records import LatencyModelRecord, LatencyRecord, NetworkLatencyRecord, OperationRecord
from ..errors import InfeasibleError

DOUBT = 1.25
"""The table predicts a whole network to within this factor, with room to spare; nearer cases are left to measuring."""


@dataclass(frozen=True)
class Reach:
    """The range of latencies that the lookup table predicts, whole network, in ms per call."""

    least_ms: float
    """Every block at its fastest operation."""
    teacher_ms: float
    target: str

    def __str__(self) -> str:
        """One line."""
        return (
            f"reachable on {self.target}: {self.least_ms:.4g} .. {self.teacher_ms:.4g} ms predicted, "
            f"{self.least_ms / self.teacher_ms:.3f} .. 1 of the teacher"
        )

    def check(self, budget: Budget) -> str:
        """Return in one line whether the latency budget can be met.

        Raises:
            InfeasibleError: it is far outside; ``least`` says what can be met.
        """
        allowed = budget.latency.absolute(self.teacher_ms)
        if self.least_ms <= allowed:
            return f"budget {budget} is {allowed:.4g} ms and within reach"
        if self.least_ms <= allowed * DOUBT:
            return f"budget {budget} is {allowed:.4g} ms, at the edge of what can be reached; measuring will tell"
        ratio = self.least_ms / self.teacher_ms
        raise InfeasibleError(
            f"budget {budget} cannot be met on {self.target}: it allows {allowed:.4g} ms, the least that can be is "
            f"about {self.least_ms:.4g} ms, {ratio:.3f} of the teacher's {self.teacher_ms:.4g} ms (predicted); "
            "give a larger --budget, or a --pool with faster operations such as hant-197",
            least={"ms": self.least_ms, "ratio": ratio},
        )


def reach(context: Context) -> Reach | None:
    """Return the reachable range after profiling; None if the run has no lookup table of this target.

    The prediction starts from the measured teacher and takes off what the fastest operations save in the table.
    """
    store = context.store
    latencies = store.all(LatencyRecord)
    fastest: dict[str, float] = {}
    own: dict[str, float] = {}
    for record in store.all(OperationRecord).values():
        latency = latencies.get(record.latency_key)
        if record.fits and latency is not None:
            fastest[record.block] = min(latency.timing.ms, fastest.get(record.block, float("inf")))
            if record.operation == "teacher":
                own[record.block] = latency.timing.ms
    teacher = store.get(NetworkLatencyRecord, "teacher")
    if not own or teacher is None:
        return None
    model = store.get(LatencyModelRecord, "model")
    saved = sum(own[block] - fastest[block] for block in own) * (model.slope if model is not None else 1.0)
    return Reach(least_ms=teacher.timing.ms - saved, teacher_ms=teacher.timing.ms, target=context.target.name)
