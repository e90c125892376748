"""Modules that the network calls several times: one block, one replacement, every call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ..ir.block import Block, Diagnostic
from .blocks import swapped
from .hierarchy import Hierarchy
from .recording import StepKind
from .site import Site


def reused_elsewhere(tree: Hierarchy, site: Site) -> str | None:
    """Return a module with weights that runs both inside the site and outside of it."""
    flow, inside = tree.flow, set(site.region.steps)
    for index in site.region.steps:
        step = flow.steps[index]
        if step.kind is StepKind.MODULE and flow.is_heavy[index]:
            calls = flow.recording.calls_of(step.target)
            if len(calls) > 1 and any(i not in inside for call in calls for i in tree.steps[call.key]):
                return str(step.target)
    return None


def tie(tree: Hierarchy, blocks: dict[Site, Block]) -> list[Diagnostic]:
    """Make the blocks of one module's calls one block, in place; drop those whose weights run elsewhere too.

    A tied block is swapped as a whole module, so every call of the module must be a site of its own that is exactly
    that call.
    """
    groups: dict[str, list[Site]] = defaultdict(list)
    for site in blocks:
        if reused_elsewhere(tree, site) is not None:
            groups[tree.calls[site.call].path if site.call is not None else ""].append(site)
    refused = []
    for path, sites in groups.items():
        block = _tied(tree, path, sites, [blocks[s] for s in sites]) if path else None
        for site in sites:
            if block is None:
                used = reused_elsewhere(tree, site)
                refused.append(
                    Diagnostic(site.name, f"its module {used} also runs elsewhere, so replacing it here would split it")
                )
                del blocks[site]
            else:
                blocks[site] = block
    return refused


def _tied(tree: Hierarchy, path: str, sites: Sequence[Site], blocks: Sequence[Block]) -> Block | None:
    calls = tree.flow.recording.calls_of(path)
    if {site.call for site in sites} != {call.key for call in calls}:
        return None
    module = swapped(tree, sites[0], once=False)
    if module is None or any(swapped(tree, site, once=False) is not module for site in sites):
        return None
    first = blocks[0]
    return replace(
        first,
        name=path,
        target=path,
        module=module,
        macs=sum(b.macs for b in blocks),
        identity_allowed=all(b.identity_allowed for b in blocks),
        calls=len(sites),
        other_calls=tuple((b.input, b.output) for b in blocks[1:]),
    )
