"""Whether the promise was kept: what verification recorded."""

from __future__ import annotations

from ..contracts.context import Context
from ..contracts.metric import TOP1
from ..contracts.records import PassRecord
from ..contracts.report import Report
from ..errors import AccuracyError, UnverifiedError


def check_outcome(context: Context) -> None:
    """Say so where the student is not verified.

    Raises:
        UnverifiedError: verification did not run, or a pass ended unverified; the message is that pass's.
    """
    passes = context.store.all(PassRecord)
    for record in passes.values():
        if record.unverified:
            raise UnverifiedError(record.unverified)
    if "verify" not in passes:
        run = context.store.root
        raise UnverifiedError(f"the student of {run} is not verified; run: hant-opt verify {run}")


def check_limits(context: Context) -> None:
    """Say so where the student of the run's report loses more accuracy than is allowed.

    Raises:
        AccuracyError: it does.
    """
    text = context.store.path("report.json").read_text(encoding="utf-8")
    accuracy = Report.model_validate_json(text).accuracy
    if not accuracy.within_limit:
        metric, lost = accuracy.metric, accuracy.metric.difference(accuracy.drop)
        what = f"loses {lost} of accuracy" if metric == TOP1 else f"is worse by {lost} in {metric.name}"
        raise AccuracyError(
            f"the student {what} ({metric.text(accuracy.teacher)} to {metric.text(accuracy.student)} on "
            f"{accuracy.samples} test images), more than the {accuracy.max_drop:g} that "
            f"--max-drop allows; its files are in {context.store.root}: give a larger --budget, more --epochs, "
            "or a larger --pool"
        )
