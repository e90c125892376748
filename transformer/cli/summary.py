"""What the user sees at the end: a table of blocks and the promise against the measurement."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from ..contracts.report import Report
from ..contracts.store import RunStore
from ..errors import UnverifiedError, UsageError
from .tables import write_line, write_table


def show_summary(store: RunStore, *, as_json: bool) -> int:
    """Print the report on standard output; return 0.

    Raises:
        UnverifiedError: the student is not verified: over budget when measured, or its outputs differ.
    """
    path = store.path("report.json")
    if not path.is_file():
        raise UsageError(f"run {store.root} has no report; run: hant-opt report {store.root}")
    text = path.read_text(encoding="utf-8")
    report = Report.model_validate_json(text)
    if as_json:
        sys.stdout.write(text + "\n")
    else:
        write_summary(report, store.root, Console())
    _check(report)
    return 0


def write_summary(report: Report, root: Path, console: Console) -> None:
    """Print the report on ``console``: rich tables on a terminal, plain lines elsewhere."""
    write_table(console, _HEADS, _rows(report), right=3)
    write_line(console, "")
    for line in facts(report):
        write_line(console, line)
    write_line(console, f"files: {', '.join(str(root / name) for name in (*sorted(report.files), 'report.json'))}")


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
        f"accuracy  teacher {accuracy.teacher:.2f} %, student {accuracy.student:.2f} %, "
        f"drop {accuracy.drop:.2f} points ({accuracy.samples} test images)",
        f"outputs   differ from PyTorch's by at most {report.parity.max_abs_difference:.2g} "
        f"({report.parity.samples} images)",
        f"time      {sum(report.seconds.values()):.0f} s",
    ]


def _rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            row.block,
            f"{row.input} -> {row.output}",
            row.operation,
            f"{row.teacher_ms:.4f}",
            f"{row.student_ms:.4f}",
            f"{row.score:+.4f}",
        )
        for row in report.blocks
    ]


_HEADS = ("block", "shape", "operation", "teacher ms", "student ms", "loss change")


def _check(report: Report) -> None:
    """Say so where the student is not what was promised."""
    if report.latency.estimated:
        raise UnverifiedError(f"the latency is an estimate: {report.target['name']} cannot be measured on this machine")
    if not report.within_budget:
        raise UnverifiedError(
            f"the student measures {report.latency.ratio:.3f} of the teacher, budget {report.budget}; "
            "the machine may be busy: give hant-opt verify RUN again, or a smaller --budget"
        )
