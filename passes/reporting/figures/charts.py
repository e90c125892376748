"""Scatter plots, fronts, bars and box plots (HANT figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .axes import BOTTOM, LEFT, RIGHT, TOP, Scale, draw_axes, draw_legend, scale_for
from .canvas import FAINT, INK, PALETTE, Canvas, short

_LEGEND = 130.0
"""Width that the names take beside a box plot."""


@dataclass(frozen=True)
class Series:
    """Points of one kind."""

    name: str
    points: Sequence[tuple[float, float]]
    titles: Sequence[str] = ()
    """Shown when the mouse is over a point; none if empty."""
    joined: bool = False
    filled: bool = True
    marked: bool = True
    """Whether the points are drawn, not only the line that joins them."""


def scatter(
    series: Sequence[Series],
    labels: tuple[str, str],
    title: str,
    log_y: bool = False,
    size: tuple[int, int] = (640, 440),
) -> str:
    """Return points (x, y) of several series on common axes, as SVG."""
    canvas = Canvas(*size)
    room = _room([one.name for one in series])
    x = scale_for((p[0] for s in series for p in s.points), LEFT, size[0] - RIGHT - room)
    y = scale_for((p[1] for s in series for p in s.points), size[1] - BOTTOM, TOP, log_y)
    draw_axes(canvas, x, y, labels, title)
    for colour, one in zip(_colours(len(series)), series, strict=True):
        places = [(x(a), y(b)) for a, b in one.points]
        if one.joined:
            canvas.line(places, colour, 1.5)
        for i, (a, b) in enumerate(places if one.marked else ()):
            canvas.dot(a, b, colour, one.filled, title=one.titles[i] if one.titles else "")
    if len(series) > 1:
        names = [(one.name, colour) for one, colour in zip(series, _colours(len(series)), strict=True)]
        draw_legend(canvas, names, size[0] - RIGHT, TOP + 12)
    return canvas.svg


def bars(shares: Mapping[str, Mapping[str, float]], label: str, title: str, width: int = 640) -> str:
    """Return horizontal bars, one row a key of the inner mappings and one bar a series, as SVG (HANT figure 3)."""
    rows = list(dict.fromkeys(key for series in shares.values() for key in series))
    thick, left = max(5.0, 14.0 / len(shares)), 170.0
    pitch = thick * len(shares) + 5
    height = TOP + BOTTOM + pitch * len(rows)
    canvas = Canvas(width, height)
    longest = max((v for s in shares.values() for v in s.values()), default=1.0) or 1.0
    x = Scale(0.0, longest * 1.05, left, width - RIGHT - _room(list(shares)))
    canvas.text(width / 2, 22, title, 14, "middle")
    for tick in x.ticks:
        canvas.line([(x(tick), TOP), (x(tick), height - BOTTOM)], FAINT)
        canvas.text(x(tick), height - BOTTOM + 18, f"{tick:.4g}", 11, "middle")
    for row, key in enumerate(rows):
        top = TOP + pitch * row
        canvas.text(left - 6, top + pitch / 2 + 2, short(key, 26), 11, "end")
        for place, (colour, (name, series)) in enumerate(zip(_colours(len(shares)), shares.items(), strict=True)):
            value = series.get(key, 0.0)
            words = f"{name} {key}: {value:.3g}"
            canvas.rectangle(left, top + thick * place, x(value) - left, thick - 1, colour, title=words)
    canvas.text((x.start + x.end) / 2, height - 12, label, 12, "middle")
    if len(shares) > 1:
        names = list(zip(shares, _colours(len(shares)), strict=True))
        draw_legend(canvas, names, width - RIGHT, TOP + 12)
    return canvas.svg


@dataclass(frozen=True)
class Box:
    """What is shown at one place of a box plot."""

    label: str
    values: Sequence[float]
    """The distribution: whiskers at its ends, box at its quartiles."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Single results by name."""


def box_plot(boxes: Sequence[Box], labels: tuple[str, str], title: str, log_y: bool = False) -> str:
    """Return distributions with single results beside them, as SVG (HANT figure 2b)."""
    width, height = LEFT + 90 * len(boxes) + _LEGEND + RIGHT, 440.0
    canvas = Canvas(width, height)
    names = list(dict.fromkeys(name for box in boxes for name in box.marks))
    everything = [v for box in boxes for v in (*box.values, *box.marks.values())]
    y = scale_for(everything, height - BOTTOM, TOP, log_y)
    x = Scale(-0.5, len(boxes) - 0.5, LEFT, width - RIGHT - _LEGEND)
    no_ticks = _Unticked(x.low, x.high, x.start, x.end)
    draw_axes(canvas, no_ticks, y, labels, title)
    for place, box in enumerate(boxes):
        canvas.text(x(place), y.start + 18, box.label, 11, "middle")
        if box.values:
            _box(canvas, x(place) - 18, y, box.values)
        for name, value in box.marks.items():
            colour = _colours(len(names))[names.index(name)]
            canvas.dot(x(place) + 14 + 7 * (names.index(name) % 3), y(value), colour, title=f"{name}: {value:.4g}")
    legend = [(name, colour) for name, colour in zip(names, _colours(len(names)), strict=True)]
    draw_legend(canvas, legend, width - RIGHT, TOP + 12)
    return canvas.svg


class _Unticked(Scale):
    @property
    def ticks(self) -> list[float]:
        """None: the places are labelled by name."""
        return []


def _box(canvas: Canvas, x: float, y: Scale, values: Sequence[float]) -> None:
    low, first, middle, third, high = np.quantile(np.array(values), (0, 0.25, 0.5, 0.75, 1)).tolist()
    words = f"{len(values)} values: {low:.4g} .. {middle:.4g} .. {high:.4g}"
    canvas.line([(x, y(low)), (x, y(high))])
    canvas.rectangle(x - 14, y(third), 28, max(1.0, y(first) - y(third)), "#f0f0f0", INK, words)
    canvas.line([(x - 14, y(middle)), (x + 14, y(middle))], INK, 2)


def _room(names: Sequence[str]) -> float:
    """Return the width that the names of several series take; none for one series, which needs no name."""
    return 28 + 6.2 * max(map(len, names)) if len(names) > 1 else 0.0


def _colours(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]
