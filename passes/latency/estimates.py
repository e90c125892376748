"""Estimates where the target cannot be run here and nothing was measured on it: the lookup table by a cost model.

They are marked wherever they appear, and deleted with all that was chosen by them as soon as there is a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ...transformer.contracts.backend import Estimator, Runner
from ...transformer.contracts.context import Context
from ...transformer.contracts.store import Store
from ...transformer.contracts.timing import Timing
from ...transformer.errors import CaptureError, UsageError
from ..delivering.records import ExportRecord, VerificationRecord
from ..finetuning.records import AlignmentRecord, StudentRecord
from ..ranking.records import RankRecord, WinnerRecord
from ..searching.records import LimitRecord
from ..selecting.records import SelectionRecord
from .provenance import of_target
from .records import CalibrationRecord, LatencyModelRecord, LatencyRecord, NetworkLatencyRecord
from .workbench import Workbench, lowerable, network_inputs

Array = NDArray[np.generic]
_DERIVED = (
    CalibrationRecord, LatencyModelRecord, LimitRecord, SelectionRecord, RankRecord, WinnerRecord,
    AlignmentRecord, StudentRecord, ExportRecord, VerificationRecord,
)  # fmt: skip
"""What is chosen or made by the latencies of a table."""


class EstimatingBench(Workbench):
    """Stands in for the workbench: what it lowers is only looked at, and its times are estimates."""

    def __init__(self, context: Context, estimator: Estimator) -> None:
        """Work for an absent target."""
        self._context, self._estimator = context, estimator
        self._teacher: Runner | None = None

    @property
    def provenance(self) -> dict[str, str]:
        """What the estimates are made from."""
        target = self._context.target
        return {**self._estimator.provenance, **of_target(target), "facts": target.facts_digest}

    def teacher(self) -> Runner:
        """Return the whole teacher's estimate, made once."""
        if self._teacher is None:
            network, inputs = lowerable(self._context.model), network_inputs(self._context)
            self._teacher = Estimated(self._estimator.ms(network, inputs))
        return self._teacher

    def lower(self, modules: Sequence[nn.Module], inputs: Sequence[Sequence[Tensor]]) -> list[Runner | str]:
        """Return the modules' estimates; where there is none, the reason stands in its place."""
        return [self._look(lowerable(module), args) for module, args in zip(modules, inputs, strict=True)]

    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[Tensor]], max_rounds: int | None = None
    ) -> tuple[Timing, ...]:
        """Return the estimates of the whole teacher and of ``runners`` as timings of one round."""
        return tuple(_timing(runner) for runner in (self.teacher(), *runners))

    def _look(self, module: nn.Module, inputs: Sequence[Tensor]) -> Runner | str:
        try:
            return Estimated(self._estimator.ms(module, inputs))
        except CaptureError as error:
            return str(error)


class Estimated(Runner):
    """A network that cannot be run here, with its estimated latency."""

    def __init__(self, ms: float) -> None:
        """Keep the estimate (ms)."""
        self.ms = ms

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError("the target cannot be run here, its latencies are estimates; run hant-opt on the device")

    def prepare(self, *inputs: Array) -> Callable[[], object]:
        """Return the call that refuses."""
        return self


def estimating_bench(context: Context) -> EstimatingBench | None:
    """Return what estimates the run's latencies; None where something was measured, which is not to be mixed with.

    Raises:
        UsageError: the target is absent and there is no cost model for it.
    """
    rows, teacher = _rows(context), _teacher(context)
    measured = [timing for timing in (*rows.values(), teacher) if timing is not None and not timing.estimated]
    return None if measured else EstimatingBench(context, context.backend.estimator(context.target))


def is_estimated(context: Context) -> bool:
    """Return whether the run's latencies on this target are estimates."""
    timing = _teacher(context)
    return timing is not None and timing.estimated


def forget_estimates(context: Context) -> int:
    """Delete the estimates of this target and all that was chosen by them, for whichever student; return how many rows
    those were.
    """
    rows = [key for key, timing in _rows(context).items() if timing.estimated]
    if rows or is_estimated(context):
        _delete(context.store, rows)
    return len(rows)


def forget_outdated_estimates(context: Context) -> int:
    """Delete estimates of this target that were made from other facts of the device, and what was chosen by them.

    Those of earlier versions do not say from which; there it counts what the teacher is estimated at now. Return how
    many rows were deleted.
    """
    teacher = context.store.get(NetworkLatencyRecord, "teacher")
    if teacher is None or not is_estimated(context):
        return 0
    facts = teacher.provenance.get("facts")
    if facts is None:
        now = EstimatingBench(context, context.backend.estimator(context.target)).time([], [])[0]
        outdated = not math.isclose(now.ms, teacher.timing.ms, rel_tol=1e-9)
    else:
        outdated = facts != context.target.facts_digest
    return forget_estimates(context) if outdated else 0


def _delete(store: Store, rows: Sequence[str]) -> None:
    with store.transaction():
        for key in rows:
            store.delete(LatencyRecord, key)
        store.delete(NetworkLatencyRecord)
        for student in store.sharing():
            for kind in _DERIVED:
                student.delete(kind)


def _rows(context: Context) -> dict[str, Timing]:
    rows = context.store.all(LatencyRecord)
    ours = {key: row for key, row in rows.items() if row.target == context.target.fingerprint}
    whole = is_estimated(context)
    return {key: row.timing for key, row in ours.items() if whole or not row.between}


def _teacher(context: Context) -> Timing | None:
    record = context.store.get(NetworkLatencyRecord, "teacher")
    ours = record is not None and record.provenance.get("target") == context.target.fingerprint
    return record.timing if record is not None and ours else None


def _timing(runner: Runner) -> Timing:
    assert isinstance(runner, Estimated), "made by this bench"
    ms = runner.ms
    return Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms, samples=(ms,), estimated=True)
