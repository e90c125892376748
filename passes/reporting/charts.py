"""The report's drawings, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...transformer.contracts.task import TOP1, Metric
from ...transformer.contracts.timing import Timing
from .figures.axes import BOTTOM, LEFT, RIGHT, TOP, Scale
from .figures.canvas import FAINT, INK, PALETTE, Canvas
from .figures.charts import Series, bars, scatter
from .figures.diagram import Row, diagrams
from .figures.run import operation_shares
from .schema import NetworkReport, PointReport, Report

_SIZE = (470, 320)
"""Of a chart that shares its row with another on a wide screen, and still can be read on a phone."""
_ROW = 76.0
_WAYS = 10
"""Most layers in the drawing of a search's way."""
_SHOWN = 24
"""Most operations in the histogram."""


def charts(report: Report) -> dict[str, str]:
    """Return the drawings that the report has data for, by name."""
    metric = report.accuracy.metric
    drawn = {
        "samples": samples({"teacher": report.latency.teacher, "student": report.latency.student}),
        "order": order({"teacher": report.latency.teacher, "student": report.latency.student}),
        "architecture": architecture(report),
        "block_times": block_times(report),
        "predicted": predicted(report.networks),
        "front": front(report),
        "students": students(report),
        "divergence": training(report, "divergence", "divergence on held-out images") if metric == TOP1 else "",
        "accuracy": training(report, "held_out_accuracy", metric.label(" on held-out images")),
        "operations": operations(report),
        "probabilities": probabilities(report.search.probabilities, _SIZE),
        "widths": widths(report.search.widths, _SIZE),
    }
    return {name: svg for name, svg in drawn.items() if svg}


def samples(timings: Mapping[str, Timing]) -> str:
    """Draw each sample as a dot on an axis from zero, the median as a line, its interval as a band."""
    width, height = _SIZE[0], TOP + BOTTOM + _ROW * len(timings)
    canvas = Canvas(width, height)
    highest = max(max((timing.high, *timing.samples)) for timing in timings.values())
    x = Scale(0.0, highest * 1.06 or 1.0, LEFT + 6, width - RIGHT)
    canvas.text(width / 2, 22, "Latency, every sample", 14, "middle")
    for tick in x.ticks:
        canvas.line([(x(tick), TOP), (x(tick), height - BOTTOM)], FAINT)
        canvas.text(x(tick), height - BOTTOM + 18, f"{tick:.4g}", 11, "middle")
    kind = "estimated" if any(timing.estimated for timing in timings.values()) else "measured"
    canvas.text((x.start + x.end) / 2, height - 12, f"ms per call ({kind})", 12, "middle")
    for place, (name, timing) in enumerate(timings.items()):
        _strip(canvas, x, TOP + _ROW * place, name, timing, PALETTE[place])
    return canvas.svg


def _strip(canvas: Canvas, x: Scale, top: float, name: str, timing: Timing, colour: str) -> None:
    canvas.text(x.start - 8, top + _ROW / 2 + 4, name, 12, "end")
    band = f"{name}: median {timing.ms:.4g} ms, {timing.low:.4g} to {timing.high:.4g} ms"
    canvas.rectangle(x(timing.low), top + 8, max(1.0, x(timing.high) - x(timing.low)), _ROW - 16, FAINT, title=band)
    for place, sample in enumerate(timing.samples):
        # spread over the strip in a fixed order in which neighbours lie apart, so that equal samples are seen
        y = top + 14 + (_ROW - 28) * (place * 0.618 % 1)
        canvas.dot(x(sample), y, colour, radius=2.5, title=f"{sample:.5g} ms")
    canvas.line([(x(timing.ms), top + 4), (x(timing.ms), top + _ROW - 4)], INK, 1.5)
    canvas.text(x(timing.ms), top + 1, f"{timing.ms:.4g}", 11, "middle")


def order(timings: Mapping[str, Timing]) -> str:
    """Draw the samples in the order in which they were taken, against the medians: drift is seen here."""
    series = [
        Series(name, [(i + 1.0, 100 * (s / timing.ms - 1)) for i, s in enumerate(timing.samples)], joined=True)
        for name, timing in timings.items()
        if timing.samples and timing.ms > 0
    ]
    labels = ("sample, teacher and student in turn", "% from the median")
    return scatter(series, labels, "Samples in order", size=_SIZE) if series else ""


def architecture(report: Report) -> str:
    """Draw the blocks before and after, side by side."""
    rows = [Row(row.block, f"{row.input} -> {row.output}", row.input != row.output) for row in report.blocks]
    before = {row.block: "teacher" for row in report.blocks}
    return diagrams(rows, {"teacher": before, "student": report.selection}, "Blocks before and after")


def block_times(report: Report) -> str:
    """Draw the latency of each block before and after."""
    before = {row.block: row.teacher_ms for row in report.blocks}
    after = {row.block: row.student_ms for row in report.blocks}
    kind = "estimated" if any(row.estimated for row in report.blocks) else "measured"
    return bars({"teacher": before, "student": after}, f"ms of the network ({kind})", "Latency of each block", _SIZE[0])


def predicted(networks: Sequence[NetworkReport]) -> str:
    """Draw predicted against measured latency of every network that was predicted before it was measured.

    Both over the teacher that was timed beside it: milliseconds of different moments do not compare.
    """
    told = [(n, n.ratio, n.predicted_ratio) for n in networks if n.ratio is not None and n.predicted_ratio is not None]
    if not told:
        return ""
    ends = [value for _, measured, told_before in told for value in (measured, told_before)]
    same = Series("equal", [(min(ends), min(ends)), (max(ends), max(ends))], joined=True, marked=False)
    groups = {
        "student": [n for n in told if n[0].name == "student"],
        "others": [n for n in told if n[0].name != "student"],
    }
    series = [
        Series(name, [(measured, before) for _, measured, before in group], [n.name for n, _, _ in group])
        for name, group in groups.items()
        if group
    ]
    kind = "estimated" if any(network.estimated for network, _, _ in told) else "measured"
    labels = (f"{kind}, share of the teacher's latency", "predicted share")
    return scatter([*series, same], labels, "Predicted against measured", size=_SIZE)


def front(report: Report) -> str:
    """Draw the points of each target, and where this student lies before and after fine-tuning."""
    series, metric = [], report.accuracy.metric
    for target in dict.fromkeys(point.target for point in report.front):
        met = [point for point in report.front if point.target == target and point.met]
        places = [(point.ratio, point.accuracy) for point in met]
        series.append(Series(target, places, [_about(point, metric) for point in met], joined=True))
    if not any(one.points for one in series):
        return ""
    for name, value in (("student, selected", report.accuracy.selected), ("fine-tuned", report.accuracy.finetuned)):
        if value is not None:
            told = f"this student, {name}: {metric.text(value)}"
            series.append(Series(name, [(report.latency.ratio, value)], [told]))
    estimated = report.latency.estimated or any(point.estimated for point in report.front)
    kind = "estimated" if estimated else "measured"
    labels = (f"latency, share of the teacher's ({kind})", metric.label(", held out"))
    return scatter([one for one in series if one.points], labels, "Latency and accuracy", size=_SIZE)


def _about(point: PointReport, metric: Metric) -> str:
    kind = "estimated" if point.estimated else "measured"
    return f"budget {point.budget}: {point.measured_ms:.4g} ms ({kind}), {metric.text(point.accuracy)}"


def training(report: Report, value: str, label: str) -> str:
    """Draw one value of each epoch, fine-tuning behind alignment; their starts are drawn too."""
    series, before = [], 0
    for stage, name in (("align", "alignment"), ("finetune", "fine-tuning")):
        rows = [epoch for epoch in report.training if epoch.stage == stage]
        points = [(float(before + epoch.epoch), float(getattr(epoch, value))) for epoch in rows]
        before += max((epoch.epoch for epoch in rows), default=0)
        if len(points) > 1:
            series.append(Series(name, points, joined=True))
    title = label[:1].upper() + label[1:].partition(",")[0]
    return scatter(series, ("epoch", label), title, size=_SIZE) if series else ""


def students(report: Report) -> str:
    """Draw the verified students of the run, this one among them, a line for each target; empty for a single one."""
    own = str(report.target["name"]), report.student, report.latency.ratio, report.accuracy.student
    others = [
        (Path(other.target).stem, other.name, other.ratio, other.accuracy)
        for other in report.students
        if other.ratio is not None and other.accuracy is not None
    ]
    rows = sorted([own, *others], key=lambda row: row[2])
    metric, series = report.accuracy.metric, []
    for target in dict.fromkeys(row[0] for row in rows):
        met = [row for row in rows if row[0] == target]
        titles = [f"{name}: {metric.text(accuracy)} at {ratio:.3f}" for _, name, ratio, accuracy in met]
        series.append(Series(target, [(ratio, accuracy) for _, _, ratio, accuracy in met], titles, joined=True))
    labels = ("latency, share of the teacher's", metric.label(" on test images"))
    return scatter(series, labels, "Students", size=_SIZE) if others else ""


def probabilities(ways: Mapping[str, Sequence[float]], size: tuple[int, int] = (640, 440)) -> str:
    """Draw how probable what each layer ended in was during a search that trains operations together."""
    return _ways(ways, "probability", "What layers end in", size)


def widths(ways: Mapping[str, Sequence[float]], size: tuple[int, int] = (640, 440)) -> str:
    """Draw the widths that such a search had in work, as a share of each ladder."""
    return _ways(ways, "share of the ladder", "Widths in work", size)


def _ways(ways: Mapping[str, Sequence[float]], label: str, title: str, size: tuple[int, int]) -> str:
    """Draw a few of them, evenly over the network: more lines cannot be told apart."""
    shown = list(ways.items())[:: max(1, -(-len(ways) // _WAYS))]
    series = [
        Series(name, [((index + 1) / len(way), value) for index, value in enumerate(way)], joined=True, marked=False)
        for name, way in shown
        if way
    ]
    return scatter(series, ("share of the search", label), title, size=size) if series else ""


def operations(report: Report) -> str:
    """Draw how often each operation is in the selections and in the student, the most frequent first."""
    if not report.operations:
        return ""
    chosen = operation_shares([report.selection])
    names = list(report.operations)[:_SHOWN]
    shares = {
        f"{report.search.selections} selections": {name: report.operations[name] for name in names},
        "student": {name: chosen.get(name, 0.0) for name in names},
    }
    return bars(shares, "share of all blocks", "Operations", _SIZE[0])
