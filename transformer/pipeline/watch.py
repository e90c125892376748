"""What the user should know while the passes run: no block to replace, and whether the budget can be met."""

from __future__ import annotations

from ...passes.latency.reach import reach
from ..contracts.budget import Budget
from ..contracts.context import Context
from ..errors import UsageError
from ..ir.graph import Graph
from .pipeline import Listener

_REASONS = 3


def watch(budget: Budget | None, *, blocks: bool = True) -> Listener:
    """Return a listener that stops the pipeline where going on would be in vain.

    1. After capture: there is no block to replace, where ``blocks`` are to be; the message says why.
    2. After profiling: the budget is far below what the pool can reach; the message says the least.
    """

    def listen(name: str, context: Context) -> None:
        if name == "capture" and blocks:
            check_blocks(context.teacher)
        found = reach(context) if name == "profile" else None
        if found is not None:
            context.progress.log(str(found))
            if budget is not None:
                context.progress.log(found.check(budget))

    return listen


def check_blocks(graph: Graph) -> None:
    """Say why there is nothing to replace.

    Raises:
        UsageError: no block is replaceable.
    """
    if graph.replaceable:
        return
    if any(not block.replaceable and block.kind not in ("stem", "head") for block in graph.blocks):
        reason = "every block is left out by --include and --exclude"
    else:
        reason = "; ".join(str(item) for item in graph.diagnostics[:_REASONS]) or "it is only a stem and a head"
    raise UsageError(f"no block to replace was found: {reason}; hant-opt inspect MODEL shows all that was found")
