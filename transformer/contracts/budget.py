"""A budget: the latency limit and further limits that hold at once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3}
LIMITED = ("params", "macs", "memory")


@dataclass(frozen=True)
class Limit:
    """At most ``value``, or at most this share of the teacher's if ``relative``."""

    value: float
    relative: bool = False

    def absolute(self, teacher: float) -> float:
        """Return the limit in the unit of ``teacher``, the teacher's own cost."""
        return self.value * teacher if self.relative else self.value

    def holds(self, cost: float, ratio: float) -> bool:
        """Return whether a measured cost, which is ``ratio`` of the teacher's, is within the limit."""
        return (ratio if self.relative else cost) <= self.value

    def __str__(self) -> str:
        """As the user may write it."""
        return f"{_digits(100 * self.value)}%" if self.relative else _digits(self.value)


@dataclass(frozen=True)
class Budget:
    """Latency limit (ratio of the teacher's, or ms per call) and further limits by name."""

    latency: Limit = Limit(0.45, relative=True)
    limits: tuple[tuple[str, Limit], ...] = ()

    @classmethod
    def parse(cls, text: str, limits: tuple[str, ...] = (), batch_size: int = 1) -> Budget:
        """Read ``0.45``, ``45%``, ``12ms`` or ``80img/s`` and limits such as ``params=50%``, ``macs=300M``.

        ``80img/s`` at batch size B means at most ``1000 * B / 80`` ms per call.

        Raises:
            UsageError: not a budget, or out of range.
        """
        return cls(_latency(text.strip().lower(), batch_size), tuple(_limit(item) for item in limits))

    def __str__(self) -> str:
        """As the user may write it."""
        head = _digits(self.latency.value) + ("" if self.latency.relative else "ms")
        return ", ".join([head, *(f"{name}={limit}" for name, limit in self.limits)])


def _digits(value: float) -> str:
    """Return a number without an exponent and without needless zeros, so that ``parse`` reads it again."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _latency(text: str, batch_size: int) -> Limit:
    match = re.fullmatch(_NUMBER + r"\s*(%|ms|img/s|)", text)
    if match is not None and float(match[1]) > 0:
        value, unit = float(match[1]), match[2]
        if unit in ("", "%"):
            ratio = value if unit == "" else value / 100
            if ratio > 1:
                raise UsageError(
                    f"budget {text!r} is above the teacher's own latency; give a ratio in (0, 1], such as 0.45, "
                    "or a time, such as 12ms"
                )
            return Limit(ratio, relative=True)
        return Limit(value if unit == "ms" else 1000 * batch_size / value)
    raise UsageError(f"cannot read budget {text!r}; expected a ratio such as 0.45, a time such as 12ms, or 80img/s")


def _limit(item: str) -> tuple[str, Limit]:
    name, _, text = item.partition("=")
    name = name.strip().lower()
    match = re.fullmatch(_NUMBER + r"\s*(%|k|m|g|kib|mib|gib|)", text.strip().lower())
    if name not in LIMITED or match is None or float(match[1]) <= 0:
        raise UsageError(f"cannot read limit {item!r}; expected one of {', '.join(LIMITED)} as params=50% or macs=300M")
    value = float(match[1])
    return name, Limit(value / 100, relative=True) if match[2] == "%" else Limit(value * _SUFFIX[match[2]])
