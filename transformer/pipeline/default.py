"""The order of the passes, by the engine of the search."""

from __future__ import annotations

from ...passes.selecting.records import MAKERS, SEARCHES, SearchEngine

PROGRAM_PASSES = (
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
"""Names of the passes of the paper's way, in the order in which they run; each is also a verb of the command."""

DESIGN_PASSES = (
    "capture",
    "master",
    "perturb",
    "gradient",
    "superblocks",
    "design",
    "train",
    "export",
    "verify",
    "report",
)
"""Those that design a network around a MasterNet."""

SCRATCH_PASSES = ("capture", "candidates", "profile", "scratch", "align", "finetune", "export", "verify", "report")
"""Those that search a space from nothing; alignment only hands on (``config.py``): there is nothing to align with."""

ORDERS: dict[str, tuple[str, ...]] = {
    "ilp": PROGRAM_PASSES,
    "design": DESIGN_PASSES,
    "scratch": SCRATCH_PASSES,
    **{
        engine: tuple(maker if name == "select" else name for name in PROGRAM_PASSES if name != "score")
        for engine, maker in (("errors", "search"), ("linear", "search"), ("prunet", "prunet"), ("shared", "choose"))
    },
    "columns": tuple("columns" if name == "select" else name for name in PROGRAM_PASSES),
}
"""The whole job by the engine of the search: two need scores, the others make their selections without."""

DEFAULT_SEARCH: SearchEngine = "linear"
"""At equal latency its students are ahead of those of the sums of errors and of scores (``docs/search.md``)."""
DEFAULT_PASSES = ORDERS[DEFAULT_SEARCH]

PASSES = frozenset(name for names in ORDERS.values() for name in names) | {"shrink", "extract"}
"""Names of the passes that some order has, and of those of ``hant-opt shrink``: a run keeps their options."""


def order(search: str, shared: bool | None = None, verb: str = "") -> tuple[str, ...]:
    """Return the pipeline of an engine of the search; a student whose weights are ``shared`` is cut out of them.

    The ``verb`` score has its pass in every pipeline that trains candidates, for those who want to look at scores.
    """
    names = ORDERS[search]
    if verb == "score" and verb not in names and "pretrain" in names:
        place = names.index("pretrain") + 1
        names = (*names[:place], verb, *names[place:])
    return tuple("extract" if name == "align" else name for name in names) if shared else names


VERBS: dict[str, tuple[str, ...]] = {
    "optimize": DEFAULT_PASSES,
    "profile": ("capture", "candidates", "profile"),
    **{name: ("capture", name) for name in PROGRAM_PASSES[3:]},
    "design": DESIGN_PASSES,
}
"""Passes that each verb of the command runs; capture makes the graph again each time."""


def verb_passes(verb: str, engine: str, shared: bool | None = None) -> tuple[str, ...]:
    """Return the passes that ``verb`` runs with an engine of the search, for a student whose weights are ``shared``."""
    if verb == "optimize":
        return order(engine, shared)
    if verb == "align" and shared:
        return ("capture", "extract")
    if verb in ("search", "select"):  # select leaves scoring to its own verb
        made = MAKERS if verb == "select" else ("score", *MAKERS)
        return ("capture", *(name for name in made if name in ORDERS[engine]))
    return VERBS[verb]


def verb_of(name: str) -> str:
    """Return the verb that runs the pass called ``name``, itself where it is no pass of the default pipeline."""
    if name in ("extract", *SEARCHES):
        return "align" if name == "extract" else "search"
    return next((verb for verb, names in VERBS.items() if verb != "optimize" and name in names), name)
