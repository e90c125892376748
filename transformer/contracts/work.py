"""How much work a stage expects to have, for ``--dry-run``: an estimate before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What a pass expects to do if it begins from nothing."""

    what: str = ""
    """In words: ``78 candidates x 220 steps of 16 images``; empty where it is not worth a line."""
    macs: float = 0.0
    """Multiply-accumulates on the training device; a step of training counts three times its forward."""
    seconds: float = 0.0
    """Time that is no computing: latencies are taken by the clock."""
    bytes: int = 0
    """Of the files that it leaves in the run."""
