"""What is in no block, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ...ir.block import Diagnostic
from .hierarchy import Hierarchy

_SHOWN = 4


def leftovers(tree: Hierarchy, explained: Iterable[int]) -> list[Diagnostic]:
    """Return a reason for every data step outside of ``explained``, the steps of blocks and of refused sites.

    1. A weighted sum of several values: no operation with one input can stand for it.
    2. A weighted sum that is no tensor, or of something that is none.
    3. Everything else is no weighted sum, so there is nothing to replace; modules with the same steps share a line.
    """
    flow, left = tree.flow, set(tree.flow.data) - set(explained)
    found = [
        Diagnostic(_where(tree, index), _heavy_reason(tree, index), flow.steps[index].source)
        for index in sorted(left)
        if flow.is_heavy[index]
    ]
    light: dict[str, dict[str, None]] = defaultdict(dict)
    for index in sorted(left):
        if not flow.is_heavy[index]:
            light[_where(tree, index)].setdefault(flow.steps[index].name.rpartition(".")[2])
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for where, names in light.items():
        alike[tuple(names)].append(where)
    return found + [
        Diagnostic(_few(places), f"{_few(names)}: no weighted sum, so there is nothing to replace")
        for names, places in alike.items()
    ]


def _where(tree: Hierarchy, index: int) -> str:
    """Return the innermost module that a step happened in, itself left out if it is one."""
    scope = tree.flow.steps[index].scope
    own = scope[:-1] if scope and tree.calls[scope[-1]].leaf else scope
    return own[-1] if own and own[-1] else "network"


def _heavy_reason(tree: Hierarchy, index: int) -> str:
    flow, step = tree.flow, tree.flow.steps[index]
    sources = [flow.steps[s] for s in flow.sources[index]]
    if len(sources) != 1:
        names = ", ".join(s.name for s in sources[:_SHOWN])
        return f"{step.name} reads {len(sources)} values ({names}); a block has one input"
    what = step.name if not step.is_tensor else sources[0].name
    return f"{step.name} is in no block, because {what} gives several tensors; a block has one input and one output"


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
