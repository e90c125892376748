"""Modules that the network calls several times: one block, one replacement, every call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ...ir.block import Block, Diagnostic
from .hierarchy import Hierarchy
from .make import swapped
from .region import Site


def split(weight: str) -> str:
    """Return why a site with a weight that others use too is no block."""
    return f"its weight {weight} is also used elsewhere, so replacing it here would split it"


def tie(tree: Hierarchy, blocks: dict[Site, Block]) -> list[Diagnostic]:
    """Make the blocks of one module's calls one block, in place; drop those whose weights run elsewhere too.

    A tied block is swapped as a whole module, so every call of the module must be a site of its own that is exactly
    that call, and no other module may hold its weights.
    """
    groups: dict[str, list[Site]] = defaultdict(list)
    for site in blocks:
        if tree.flow.shared_weight(site.region.steps) is not None:
            groups[tree.calls[site.call].path if site.call is not None else ""].append(site)
    refused = []
    for path, sites in groups.items():
        block = _tied(tree, path, sites, [blocks[s] for s in sites]) if path else None
        for site in sites:
            if block is None:
                refused.append(Diagnostic(site.name, split(str(tree.flow.shared_weight(site.region.steps)))))
                del blocks[site]
            else:
                blocks[site] = block
    return refused


def _tied(tree: Hierarchy, path: str, sites: Sequence[Site], blocks: Sequence[Block]) -> Block | None:
    calls = tree.flow.recording.calls_of(path)
    together = [index for site in sites for index in site.region.steps]
    if {site.call for site in sites} != {call.key for call in calls} or tree.flow.shared_weight(together):
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
        other_calls=tuple((b.input, b.output) for b in blocks[1:]),
        trunk=all(b.trunk for b in blocks),
    )
