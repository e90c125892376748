"""The order of the default pipeline."""

from __future__ import annotations

DEFAULT_PASSES = (
    "capture",
    "candidates",
    "profile",
    "pretrain",
    "score",
    "select",
    "rank",
    "finetune",
    "export",
    "verify",
    "report",
)
"""Names of the passes, in the order in which they run; each is also a verb of the command."""

VERBS: dict[str, tuple[str, ...]] = {
    "optimize": DEFAULT_PASSES,
    "profile": ("capture", "candidates", "profile"),
    **{name: ("capture", name) for name in DEFAULT_PASSES[3:]},
}
"""Passes that each verb of the command runs; capture makes the graph again each time."""


def verb_of(name: str) -> str:
    """Return the verb that runs the pass called ``name``, itself where it is no pass of the default pipeline."""
    return next((verb for verb, names in VERBS.items() if verb != "optimize" and name in names), name)
