"""Choosing the blocks that the network's designer would name, from the top down."""

from __future__ import annotations

from typing import Literal

from .hierarchy import Hierarchy
from .region import NoRegion, Region, Role, Site, keeps_shape
from .repetition import Repetition
from .tied import split

Granularity = Literal["fine", "block", "stage"]
"""How large the sites are: parts of blocks, blocks, or stages of blocks."""

_SHARE_OF_STAGE = 0.9
"""A module with more of the network's work than this is the network's trunk, not a stage."""
_SHARE_OF_PARTS = 0.75
"""A block is split into its parts where they do this share of its work."""
_PLAIN_HEAVY = 4
_PLAIN_HEAVY_FORKED = 6


class Chooser:
    """Walks the module tree and stops at blocks."""

    def __init__(self, tree: Hierarchy, repetition: Repetition, granularity: Granularity = "block") -> None:
        self.tree = tree
        self.granularity = granularity
        self.repetition = repetition
        self.sites: list[Site] = []
        self.refused: list[tuple[str, str]] = []
        """(call, reason) of modules that would be blocks but are no region."""

    def choose(self) -> list[Site]:
        """Return the sites that modules make, in order of execution and without overlap."""
        for key in self.tree.children[None]:
            self._visit(key)
        taken: set[int] = set()
        kept = []
        for site in sorted(self.sites, key=lambda site: site.role is not Role.BLOCK):
            left = self._without(site, taken)
            if left is not None:
                kept.append(left)
                taken.update(left.region.steps)
        return sorted(kept, key=lambda site: site.region.exit)

    def _visit(self, key: str) -> None:
        tree, call = self.tree, self.tree.calls[key]
        if not tree.work(key) or call.leaf:
            return
        region = self._region(key)
        if call.path and isinstance(region, Region):
            if self.granularity == "stage" and self._is_stage(key):
                self.sites.append(Site(Role.BLOCK, region, key, call.key))
                return
            if self._is_shell(key):
                self._descend(key)
                return
            role = self._role(key, region)
            if role is Role.BLOCK and self.granularity == "fine":
                self._split(key)
                return
            if role is not None:
                self.sites.append(Site(role, region, key, call.key))
                return
        elif isinstance(region, NoRegion) and self._could_be_block(key):
            self.refused.append((key, region.reason))
        self._descend(key)

    def _region(self, key: str) -> Region | NoRegion:
        """Return the region of a call; weights that others use too bar it, unless all calls may be tied."""
        region, flow = self.tree.region_or_reason(key), self.tree.flow
        if isinstance(region, NoRegion) and self.tree.class_key(key) in self.tree.forking_classes:
            region = self.tree.sided_region(key) or region
        if isinstance(region, NoRegion) or len(flow.recording.calls_of(self.tree.calls[key].path)) > 1:
            return region
        weight = flow.shared_weight(region.steps)
        return region if weight is None else NoRegion(split(weight))

    def _could_be_block(self, key: str) -> bool:
        """Return whether a designer may call this a block: a named item of a container, or of a repeated class."""
        named = self.tree.calls[key].path != "" and not self.tree.is_anonymous(key)
        return named and (self.tree.in_container(key) or self.tree.class_key(key) in self.repetition.repeated)

    def _is_stage(self, key: str) -> bool:
        """Return whether a call wraps several blocks and is not nearly the whole network."""
        whole = self.tree.flow.weight_macs(self.tree.flow.data)
        return self._repeats_inside(key) and self.tree.work(key) <= _SHARE_OF_STAGE * whole

    def _split(self, key: str) -> None:
        """Take a block's parts (attention, MLP) as sites; a block without such parts is left to runs of layers."""
        tree = self.tree
        parts = [k for k in tree.children[key] if tree.work(k) and not tree.calls[k].leaf]
        regions = {k: region for k in parts if isinstance(region := self._region(k), Region)}
        if sum(map(tree.work, parts)) >= _SHARE_OF_PARTS * tree.work(key) and len(regions) == len(parts):
            self.sites += [Site(Role.BLOCK, region, k, k) for k, region in regions.items()]

    def _descend(self, key: str) -> None:
        for child in self.tree.children[key]:
            self._visit(child)

    def _is_wrapper(self, key: str) -> bool:
        """Return whether to look for blocks inside: a wrapper's class, with something repeated in this instance."""
        if self.tree.class_key(key) not in self.repetition.wrappers:
            return False
        return self._repeats_inside(key)

    def _repeats_inside(self, key: str) -> bool:
        repeated, tree = self.repetition.repeated, self.tree
        return any(tree.class_key(k) in repeated and tree.region(k) is not None for k in tree.descendants(key))

    def _forks(self, key: str) -> bool:
        """Return whether the call, or another of its class, forks (an MBConv with stride 2 has no shortcut)."""
        return self.tree.forks(key) or self.tree.class_key(key) in self.tree.forking_classes

    def _is_shell(self, key: str) -> bool:
        """Return whether one child does all the work of an unrepeated module that does not fork."""
        tree = self.tree
        working = [child for child in tree.children[key] if tree.work(child)]
        if self._forks(key) or len(working) != 1 or tree.work(working[0]) != tree.work(key):
            return False
        if tree.calls[working[0]].leaf or tree.region(working[0]) is None:
            return False
        repeated = tree.class_key(key) in self.repetition.repeated
        return tree.is_anonymous(key) or not repeated or self._is_wrapper(key)

    def _role(self, key: str, region: Region) -> Role | None:
        """Return what the call is, or None to look inside.

        1. It forks and is no wrapper: a block.
        2. It does not fork but repeats and is no wrapper: a block (a plain Sequential only if nothing in it forks or
           repeats, or one thing forks and the shape stays).
        3. It is small, nothing in it repeats, here or elsewhere, and at most one thing forks: plain.
        """
        if self._is_wrapper(key):
            return None
        if self._forks(key):
            return Role.BLOCK
        tree, inner = self.tree, self.tree.inner_forks(key)
        if tree.class_key(key) in self.repetition.repeated:
            alone = inner == 0 and not self._repeats_inside(key)
            if not tree.is_anonymous(key) or alone or (inner == 1 and keeps_shape(tree.flow, region)):
                return Role.BLOCK
        repeated = self.repetition.repeated
        if any(tree.class_key(k) in repeated and self._could_be_block(k) for k in tree.descendants(key)):
            return None
        grouped = any(g.class_key in repeated for g in self.repetition.inside.get(key, []))
        if inner == 0 and tree.heavy(key) <= _PLAIN_HEAVY and not grouped:
            return Role.PLAIN
        if inner == 1 and not tree.is_anonymous(key) and tree.heavy(key) <= _PLAIN_HEAVY_FORKED:
            return Role.PLAIN
        return None

    def _without(self, site: Site, taken: set[int]) -> Site | None:
        """Return the site without steps that another has; a widened region may have reached into its neighbour.

        Blocks go before what is plain: the projection of a shortcut belongs to the block that adds it.
        """
        if taken.isdisjoint(site.region.steps):
            return site
        if taken.issuperset(site.region.steps):
            return None
        assert site.call is not None
        flow = self.tree.flow
        left = tuple(i for i in self.tree.steps[site.call] if i not in taken)
        entries, exits = flow.entries(left), flow.exits(left)
        if len(entries) != 1 or len(exits) != 1 or not flow.steps[entries[0]].is_tensor:
            self.refused.append((site.call, "it overlaps the block before it"))
            return None
        return Site(site.role, Region(entries[0], exits[0], left, full=False), site.call, site.name)
