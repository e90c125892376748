"""Axes: from data to pixels, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .canvas import FAINT, Canvas

LEFT, TOP, RIGHT, BOTTOM = 64.0, 40.0, 16.0, 52.0


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to pixels, on a logarithmic scale if ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside are put on the border."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values inside the range."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**p for p in powers for m in (1, 2, 5) if self.low <= m * 10.0**p <= self.high]
            if len(found) >= 2:
                return found
        step = _step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, first + 20) if k * step <= self.high + 1e-9 * step]


def scale_for(values: Iterable[float], start: float, end: float, log: bool = False) -> Scale:
    """Return a scale over all values with a little room at both ends."""
    found = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if log and found:
        room = max((high / low) ** 0.05, 1.02)
        return Scale(low / room, high * room, start, end, True)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return Scale(low - room, high + room, start, end)


def draw_axes(canvas: Canvas, x: Scale, y: Scale, labels: tuple[str, str], title: str) -> None:
    """Draw grid, ticks, labels and title."""
    canvas.text(canvas.width / 2, 22, title, 14, "middle")
    for tick in y.ticks:
        canvas.line([(x.start, y(tick)), (x.end, y(tick))], FAINT)
        canvas.text(x.start - 6, y(tick) + 4, f"{tick:.6g}", 11, "end")
    for tick in x.ticks:
        canvas.line([(x(tick), y.start), (x(tick), y.start + 4)])
        canvas.text(x(tick), y.start + 18, f"{tick:.6g}", 11, "middle")
    _frame(canvas, x, y)
    canvas.text((x.start + x.end) / 2, canvas.height - 12, labels[0], 12, "middle")
    canvas.text(16, (y.start + y.end) / 2, labels[1], 12, "middle", turn=-90)


def draw_legend(canvas: Canvas, names: Sequence[tuple[str, str]], right: float, top: float) -> None:
    """List names with their colours, right-aligned at ``right``."""
    for row, (name, colour) in enumerate(names):
        y = top + 16 * row
        canvas.dot(right - 6, y - 4, colour)
        canvas.text(right - 16, y, name, 11, "end")


def _frame(canvas: Canvas, x: Scale, y: Scale) -> None:
    corners = [(x.start, y.end), (x.start, y.start), (x.end, y.start)]
    canvas.line(corners)


def _step(span: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that cuts ``span`` into about five."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= 6)
