"""Shapes and text as SVG. Units are pixels from the top left corner."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#b8a100")
"""Told apart by people who see few colours too (Okabe and Ito)."""
INK, FAINT = "#222222", "#d9d9d9"


class Canvas:
    """Collects shapes; ``svg`` is the finished text."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    @property
    def svg(self) -> str:
        """The drawing as a file's content; the same shapes give the same text."""
        size = f'width="{_n(self.width)}" height="{_n(self.height)}" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif">'
        ground = f'<rect width="{_n(self.width)}" height="{_n(self.height)}" fill="#ffffff"/>'
        return "\n".join([head, ground, *self._parts, "</svg>", ""])

    def line(self, points: Sequence[tuple[float, float]], colour: str = INK, width: float = 1, dash: str = "") -> None:
        """Draw straight lines from point to point."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{_n(width)}"{dashes}/>'
        )

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str, edge: str = "none", title: str = ""
    ) -> None:
        """Draw a box; ``title`` is shown when the mouse is over it."""
        shape = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="2"'
        self._parts.append(f'<rect {shape} fill="{fill}" stroke="{edge}">{_title(title)}</rect>')

    def dot(self, x: float, y: float, colour: str, filled: bool = True, radius: float = 3.5, title: str = "") -> None:
        """Draw a point."""
        fill = f'fill="{colour}" fill-opacity="0.75"' if filled else 'fill="#ffffff" fill-opacity="0.6"'
        self._parts.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" {fill} stroke="{colour}">{_title(title)}</circle>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        anchor: str = "start",
        colour: str = INK,
        turn: float = 0,
    ) -> None:
        """Write one line; ``anchor`` is start, middle or end, ``turn`` in degrees."""
        rotate = f' transform="rotate({_n(turn)} {_n(x)} {_n(y)})"' if turn else ""
        place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" fill="{colour}"{rotate}'
        self._parts.append(f"<text {place}>{escape(words)}</text>")


def short(words: str, most: int) -> str:
    """Return the words, or their end after dots where they are longer than ``most`` characters."""
    return words if len(words) <= most else f"...{words[3 - most :]}"


def _n(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
