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
    "align",
    "finetune",
    "export",
    "verify",
    "report",
)
"""Names of the passes, in the order in which they run; each is also a verb of the command."""

ORDERS: dict[str, tuple[str, ...]] = {
    "ilp": DEFAULT_PASSES,
    **{
        engine: tuple(maker if name == "select" else name for name in DEFAULT_PASSES if name != "score")
        for engine, maker in (("linear", "search"), ("prunet", "prunet"))
    },
}
"""The default pipeline by the engine of the search: one needs scores, the others make their selections without."""

VERBS: dict[str, tuple[str, ...]] = {
    "optimize": DEFAULT_PASSES,
    "profile": ("capture", "candidates", "profile"),
    **{name: ("capture", name) for name in DEFAULT_PASSES[3:]},
}
"""Passes that each verb of the command runs; capture makes the graph again each time."""


def verb_passes(verb: str, engine: str) -> tuple[str, ...]:
    """Return the passes that ``verb`` runs with an engine of the search."""
    if verb == "optimize":
        return ORDERS[engine]
    if verb == "search":
        return ("capture", *(name for name in ("score", "select", "search", "prunet") if name in ORDERS[engine]))
    return VERBS[verb]


def engine_of(verb: str, engine: str) -> str:
    """Return the engine of the search that ``verb`` works for: the stages of only one name it."""
    return "ilp" if verb in ("score", "select") else engine


def verb_of(name: str) -> str:
    """Return the verb that runs the pass called ``name``, itself where it is no pass of the default pipeline."""
    if name in ORDERS:
        return "search"
    return next((verb for verb, names in VERBS.items() if verb != "optimize" and name in names), name)
