"""What a backend gives to a kit, which measures on a device that has neither hant nor PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KitPart:
    """The runtime's share of a kit's script."""

    sources: tuple[str, ...]
    """Python source of ``take_rounds`` (the stopwatch) and of a class ``Device``, in an order in which they can be run.

    They need Python, numpy and the modules of ``needs`` only. ``Device(settings)`` has ``problem() -> str | None``,
    ``facts() -> dict[str, str]`` (the part of a latency's provenance that is seen there), ``clock()``, which returns
    a clock in seconds, and ``open(content, *inputs)``, which returns a call that runs the network in a lowered file
    of this content once.
    """
    needs: dict[str, str]
    """Modules that the script imports -> what to install them with, such as ``onnxruntime``."""
    settings: dict[str, Any]
    """What ``Device`` is made from: plain data."""
    asked: dict[str, str]
    """The part of a latency's provenance that the target's file decides."""
