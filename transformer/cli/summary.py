"""What the user sees at the end: a table of blocks and the promise against the measurement."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ...passes.reporting.schema import AccuracyReport, ParityReport, Report
from ..contracts.store import Store
from ..contracts.task import TOP1
from ..pipeline.outcome import REPORTS, read_report
from ..runs.records import PassRecord
from .tables import write_line, write_table
from .terminal import shown, write_json


def show_summary(store: Store, *, as_json: bool) -> None:
    """Print the report on standard output."""
    report = read_report(store)
    if as_json:
        write_json(json.loads(report.model_dump_json()))
    else:
        write_summary(report, store.path(REPORTS[0]).parent, Console())


def show_passes(store: Store, names: Sequence[str], *, as_json: bool) -> None:
    """Print what the named passes recorded."""
    records = {name: record for name, record in store.all(PassRecord).items() if name in names}
    if as_json:
        plain = {name: record.model_dump(mode="json") for name, record in records.items()}
        write_json({"run": str(store.root), "student": store.student, "passes": plain})
        return
    for name in names:
        if name in records:
            facts = "; ".join([f"{name}: done in {records[name].seconds:.1f} s", *records[name].notes])
            sys.stdout.write(shown(facts) + "\n")


def write_summary(report: Report, root: Path, console: Console) -> None:
    """Print the report on ``console``: rich tables on a terminal, plain lines elsewhere."""
    estimated = any(row.estimated for row in report.blocks)
    heads = [f"{head} (est.)" if estimated and head.endswith(" ms") else head for head in (*_HEADS, report.loses)]
    write_table(console, heads, _rows(report), right=3)
    write_line(console, "")
    for line in facts(report):
        write_line(console, line)
    write_line(console, f"files: {', '.join(str(root / name) for name in (*sorted(report.files), *REPORTS))}")


def facts(report: Report) -> list[str]:
    """Return latency, accuracy and search as lines."""
    latency, accuracy = report.latency, report.accuracy
    kind = "estimated" if latency.estimated else "measured"
    low, high = latency.ratio_interval
    met = "met" if report.within_budget else "NOT met"
    return [
        f"latency   teacher {latency.teacher_ms:.4g} ms, student {latency.student_ms:.4g} ms "
        f"({kind} on {report.target['name']})",
        f"ratio     {latency.ratio:.3f} {kind} ({low:.3f} .. {high:.3f}), {latency.predicted_ratio:.3f} predicted; "
        f"budget {report.budget} {met}",
        _quality(accuracy),
        _parity(report.parity),
        f"time      {sum(report.seconds.values()):.0f} s",
    ]


def _quality(accuracy: AccuracyReport) -> str:
    metric = accuracy.metric
    head = "accuracy  " if metric == TOP1 else f"accuracy  {metric.name}: "
    return (
        f"{head}teacher {metric.text(accuracy.teacher)}, student {metric.text(accuracy.student)}, "
        f"drop {metric.difference(accuracy.drop)} ({accuracy.samples} test images){_allowed(accuracy)}"
    )


def _parity(parity: ParityReport) -> str:
    if not parity.samples:
        return "outputs   not compared: the device is not here; accuracies are PyTorch's"
    return f"outputs   differ from PyTorch's by at most {parity.max_abs_difference:.2g} ({parity.samples} images)"


def _allowed(accuracy: AccuracyReport) -> str:
    if accuracy.max_drop is None:
        return ""
    return f"; limit {accuracy.max_drop:g} {'met' if accuracy.within_limit else 'NOT met'}"


def _rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            row.block,
            f"{row.input} -> {row.output}",
            row.teacher,
            row.operation,
            f"{row.teacher_ms:.4f}",
            f"{row.student_ms:.4f}",
            row.loses,
        )
        for row in report.blocks
    ]


_HEADS = ("block", "shape", "teacher", "student", "teacher ms", "student ms")
