"""Whether the promise was kept: what verification recorded."""

from __future__ import annotations

from ...passes.reporting.schema import Report
from ..contracts.store import Store
from ..contracts.task import TOP1
from ..errors import AccuracyError, UnverifiedError, UsageError
from ..runs.records import PassRecord
from ..tools.reading import parse_model

REPORTS = ("report.json", "report.html", "report.md")


def check_outcome(store: Store) -> None:
    """Say so where the student is not verified.

    Raises:
        UnverifiedError: verification did not run, or a pass ended unverified; the message is that pass's.
    """
    passes = store.all(PassRecord)
    for record in passes.values():
        if record.unverified:
            raise UnverifiedError(record.unverified)
    if "verify" not in passes:
        run = store.address
        raise UnverifiedError(f"the student of {run} is not verified; run: hant-opt verify {run}")


def read_report(store: Store) -> Report:
    """Return the run's report.

    Raises:
        UsageError: there is none.
        LoadError: it is damaged.
    """
    path = store.path("report.json")
    if not path.is_file():
        raise UsageError(f"run {store.root} has no report; run: hant-opt report {store.address}")
    hint = f"delete it, then run: hant-opt report {store.address}"
    return parse_model(path.read_bytes(), Report, f"{path} is damaged", hint)


def is_report_finished(store: Store) -> bool:
    """Return whether the report is there and nothing that it tells of was made or begun after it."""
    record = store.get(PassRecord, "report")
    if record is None or record.unverified or not all(store.path(name).is_file() for name in REPORTS):
        return False
    for what, facts in reversed(store.events()):
        if what == "pass_finished" and facts.get("name") == "report":
            return True
        if (what == "pass_started" and facts.get("name") not in ("capture", "report")) or (
            what == "put" and facts.get("kind") not in ("pass", "run", "report")
        ):
            return False
    return False


def check_limits(store: Store) -> None:
    """Say so where the student of the run's report loses more accuracy than is allowed.

    Raises:
        AccuracyError: it does.
    """
    accuracy = read_report(store).accuracy
    if not accuracy.within_limit:
        metric, lost = accuracy.metric, accuracy.metric.difference(accuracy.drop)
        what = f"loses {lost} of accuracy" if metric == TOP1 else f"is worse by {lost} in {metric.name}"
        raise AccuracyError(
            f"the student {what} ({metric.text(accuracy.teacher)} to {metric.text(accuracy.student)} on "
            f"{accuracy.samples} test images), more than the {accuracy.max_drop:g} that "
            f"--max-drop allows; its files are in {store.path(REPORTS[0]).parent}: give a larger --budget, "
            "more --epochs, or a larger --pool"
        )
