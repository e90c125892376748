"""``report.md``: the result in a few lines, for the comment of a pull request."""

from __future__ import annotations

import re

from ...transformer.contracts.task import TOP1
from .schema import Report
from .words import count, duration, kept, kind, ms, share, speedup


def comment(report: Report) -> str:
    """Return the report as GitHub's Markdown; names of the run stand in code, so that they cannot be markup."""
    latency, accuracy = report.latency, report.accuracy
    low, high = latency.ratio_interval
    metric = accuracy.metric
    told = str if metric == TOP1 else code
    asked = f"budget {code(report.budget)}" + (
        "" if accuracy.max_drop is None else f", at most {told(metric.limit(accuracy.max_drop))}"
    )
    changed = sum(row.operation != "teacher" for row in report.blocks)
    lines = [
        f"### {'Kept' if kept(report) else '**NOT kept**'}: {asked} on {code(str(report.target['name']))}",
        "",
        "| | teacher | student | |",
        "|---|---:|---:|---:|",
        f"| latency ({kind(report)}) | {ms(latency.teacher_ms, latency.estimated)} "
        f"| {ms(latency.student_ms, latency.estimated)} | {latency.ratio:.3f} ({low:.3f} to {high:.3f}), "
        f"{speedup(report)} faster |",
        f"| {told(metric.name)}, {accuracy.samples} test images | {told(metric.text(accuracy.teacher))} "
        f"| {told(metric.text(accuracy.student))} "
        f"| {told(metric.difference(accuracy.student - accuracy.teacher, '+'))} |",
        _sizes("parameters", report.parameters),
        _sizes("MACs", report.macs),
        "",
        f"{changed} of {len(report.blocks)} blocks replaced; {_parity(report)}; "
        f"made in {duration(sum(report.seconds.values()))}. "
        "Everything else is in `report.html`.",
        "",
        "<details><summary>Blocks</summary>",
        "",
        f"| block | student | before | after | {report.loses} |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {code(row.block)} | {code(row.operation)} | {ms(row.teacher_ms, row.estimated)} "
            f"| {ms(row.student_ms, row.estimated)} | {row.loses} |"
            for row in report.blocks
        ),
        "",
        "</details>",
        "",
    ]
    return "\n".join(lines)


def code(text: str) -> str:
    """Return ``text`` as code in a cell of a table: on one line, with fences that it does not hold itself."""
    plain = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    return f"{fence} {plain} {fence}" if "`" in plain else f"`{plain}`"


def _sizes(name: str, sizes: dict[str, int]) -> str:
    teacher, student = sizes["teacher"], sizes["student"]
    return f"| {name} | {count(teacher)} | {count(student)} | {share(student, teacher)} |"


def _parity(report: Report) -> str:
    if not report.parity.samples:
        return "the device is not here, so accuracies are PyTorch's and outputs are not compared"
    return f"outputs in the runtime differ from PyTorch's by at most {report.parity.max_abs_difference:.2g}"
