"""Numbers as people read them; each with its unit, and marked where it is an estimate."""

from __future__ import annotations

import math

from .schema import Report


def ms(value: float, estimated: bool = False) -> str:
    """Return a latency with about four digits: ``0.7222 ms``, ``12.34 ms``; an estimate: ``~0.7222 ms (est.)``."""
    decimals = next((kept for least, kept in ((100, 1), (10, 2), (1, 3)) if abs(value) >= least), 4)
    number = f"{value:.{decimals}f} ms"
    return f"~{number} (est.)" if estimated else number


def count(value: float) -> str:
    """Return a count: ``14.25 M``."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {unit}"
    return f"{value:.4g}"


def share(part: float, whole: float) -> str:
    """Return a part of a whole as a percentage; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def duration(seconds: float) -> str:
    """Return a time: ``45.2 s``, ``12 min 3 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def speedup(report: Report) -> str:
    """Return how many times faster the student is: ``2.30x``."""
    ratio = report.latency.ratio
    return f"{1 / ratio:.2f}x" if ratio > 0 and math.isfinite(ratio) else "-"


def kind(report: Report) -> str:
    """Return whether the latency is ``measured`` or an ``estimate``."""
    return "estimate" if report.latency.estimated else "measured"


def kept(report: Report) -> bool:
    """Return whether everything that was asked was met."""
    return report.within_budget and report.accuracy.within_limit and all(limit.kept for limit in report.limits)


def whole(report: Report) -> dict[str, float]:
    """Return what blocks and rest add up to (ms), of ``teacher`` and ``student``; nothing for an older report."""
    rest = report.outside_ms
    sums = {"teacher": [row.teacher_ms for row in report.blocks], "student": [row.student_ms for row in report.blocks]}
    return {name: rest[name] + sum(rows) for name, rows in sums.items() if name in rest}
