"""What the quality of a network is told in."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

_BROKEN = 1e30


class Metric(BaseModel):
    """A number that is averaged over images: its name, its unit, and which way is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """As it is to be printed, such as ``mean IoU``."""
    unit: str = ""
    """Printed after the value; ``%`` where the value is in percent. Empty for a plain number."""
    higher_is_better: bool = True

    def gain(self, value: float) -> float:
        """Return a number that is higher the better ``value`` is."""
        return value if self.higher_is_better else -value

    def finite(self, value: float) -> float:
        """Return ``value`` as records can hold it: what is no number counts as worse than anything real."""
        return self.gain(-_BROKEN) if math.isnan(value) else max(-_BROKEN, min(value, _BROKEN))

    def drop(self, teacher: float, student: float) -> float:
        """Return how much worse the student's value is than the teacher's; negative where it is better."""
        return teacher - student if self.higher_is_better else student - teacher

    def label(self, what: str) -> str:
        """Return the label of an axis: ``top-1 on test images, %`` for `` on test images``."""
        return f"{self.name}{what}" + (f", {self.unit}" if self.unit else "")

    def text(self, value: float) -> str:
        """Return a value as people read it: ``98.50 %``, ``0.6123``, ``3.21 cm``."""
        return f"{value:.2f} %" if self.unit == "%" else f"{value:.4g} {self.unit}".rstrip()

    def difference(self, value: float, sign: str = "") -> str:
        """Return a difference of two values as people read it: ``0.25 points``; with ``sign="+"`` always signed."""
        return f"{value:{sign}.2f} points" if self.unit == "%" else f"{value:{sign}.4g} {self.unit}".rstrip()

    def limit(self, drop: float) -> str:
        """Return the largest drop that is allowed as people read it: ``0.5 points lost``."""
        return " ".join(filter(None, (f"{drop:g}", "points" if self.unit == "%" else self.unit, "lost")))


TOP1 = Metric(name="top-1", unit="%")
"""Share of the images whose class is right."""
LOSS = Metric(name="loss", higher_is_better=False)
"""The task's own loss."""
