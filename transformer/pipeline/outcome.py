"""Whether the promise was kept: read from what verification recorded."""

from __future__ import annotations

from ..contracts.context import Context
from ..contracts.records import VerificationRecord
from ..errors import UnverifiedError


def check_outcome(context: Context) -> None:
    """Say so where the student is not what was promised.

    Raises:
        UnverifiedError: nothing was verified, the latency is an estimate, it is over budget when measured, or the
            runtime's outputs differ from PyTorch's by more than the target tolerates.
    """
    run, target = context.store.root, context.target
    record = context.store.get(VerificationRecord, "verification")
    if record is None:
        raise UnverifiedError(f"the student of {run} is not verified; run: hant-opt verify {run}")
    if record.teacher.estimated or record.student.estimated:
        raise UnverifiedError(
            f"the student's latency is an estimate: {target.name} cannot be measured here; "
            f"run hant-opt verify {run} on the device"
        )
    if not record.within_budget:
        raise UnverifiedError(
            f"the student measures {record.ratio:.3f} of the teacher, which is over budget; the machine may be busy: "
            f"run hant-opt verify {run} again, or give a smaller --budget"
        )
    if record.max_abs_difference > target.tolerances.max_abs:
        raise UnverifiedError(
            f"the student's outputs on {target.name} differ from PyTorch's by {record.max_abs_difference:.2g}, "
            f"more than the {target.tolerances.max_abs:.2g} that the target tolerates"
        )
